"""The certificate and the key of the TLS listeners: two files in PEM -> what OpenSSL serves with."""

import os
import re
import ssl
from pathlib import Path
from typing import Literal, NoReturn

_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")


class CertificateFault(OSError):
    """What is wrong, and with which of the two."""

    def __init__(self, key: Literal["certificate", "key"], message: str) -> None:
        super().__init__(message)
        self.key = key


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and later, HTTP/1.1, with what is in these files.  Reads from the disk.  Raises CertificateFault."""
    chain, secret = _text("certificate", certificate), _text("key", key)
    if "-----BEGIN CERTIFICATE-----" not in chain:
        raise CertificateFault("certificate", f"{certificate} {_no_certificate(chain)}")
    if not _PRIVATE_KEY.search(secret):
        raise CertificateFault("key", f"{key} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> NoReturn:
        raise CertificateFault(
            "key",
            f"{key} wants a password, and nobody is there to type it; "
            f"write one without, and keep it from others: openssl pkey -in {key} -out NEW",
        )

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        raise _unusable(certificate, key, error) from None
    except CertificateFault:
        raise
    except OSError as error:  # it has gone since
        raise CertificateFault("certificate", f"{certificate} and {key} {_unread(error)}") from None
    return context


def _text(which: Literal["certificate", "key"], path: str) -> str:
    try:
        return Path(path).read_text("latin-1")
    except OSError as error:
        raise CertificateFault(which, f"{path} {_unread(error)}") from None


def _unread(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "is not there; write the path of a file in PEM"
        case PermissionError():
            return f"cannot be read: give user {os.getuid()} the right to read it"
        case _:
            return f"cannot be read: {error.strerror}"


def _no_certificate(text: str) -> str:
    if _PRIVATE_KEY.search(text):
        return "holds a key and no certificate; have the two been swapped?"
    return "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"


def _unusable(certificate: str, key: str, error: ssl.SSLError) -> CertificateFault:
    reason = error.reason or ""  # OpenSSL does not always give one
    if "MISMATCH" in reason:
        return CertificateFault(
            "key", f"{key} is not the key of {certificate}; the server's own comes first there"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certificate)
    except ssl.SSLError:
        return CertificateFault("certificate", f"{certificate} is damaged, or not a certificate after all")
    if not reason or error.library == "PEM":
        return CertificateFault(
            "key", f"{key} cannot be read as a key: it is damaged, or of a kind that OpenSSL does not know"
        )
    why = reason.lower().replace("_", " ")
    return CertificateFault("certificate", f"{certificate} cannot be used: OpenSSL says {why}")
