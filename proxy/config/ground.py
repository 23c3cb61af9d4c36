"""What only this machine can tell: whether the spool takes files, the addresses are free, the certificate fits.

Every probe leaves things as they were.  They may still change before the start; but most of what goes wrong
is told here, all at once and with its place in the file.
"""

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator

from proxy.config.addresses import Address, TcpAddress, UnixAddress
from proxy.config.certificate import CertificateFault, server_context
from proxy.config.document import Document
from proxy.config.model import Config
from proxy.config.problems import Path, Problem


def problems(config: Config, document: Document) -> Iterator[Problem]:
    """What keeps this config from being served here.  `document` is where it was read from."""
    if message := _spool_fault(config.spool.path):
        yield document.problem(("spool", "path"), f"{config.spool.path} {message}")
    if (tls := config.server.tls) is not None:
        try:
            server_context(tls.certificate, tls.key)
        except CertificateFault as fault:
            yield document.problem(("server", "tls", fault.key), str(fault))
    listeners: list[tuple[Path, Address]] = [
        (("server", "listen", index), address) for index, address in enumerate(config.server.listen)
    ]
    if config.admin.listen:
        listeners.append((("admin", "listen"), config.admin.listen))
    for path, address in listeners:
        match address:
            case TcpAddress():
                message = _tcp_fault(address)
            case UnixAddress():
                message = _unix_fault(address.path)
        if message:
            yield document.problem(path, f"{address} {message}")


def _spool_fault(folder: str) -> str | None:
    """Why no file can be made in the folder, or no such folder in the nearest one there is."""
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        else:
            with tempfile.TemporaryDirectory(dir=there):
                pass
    except OSError as error:
        where = "" if there == folder else f" in {there}"
        return f"cannot be written to: {error.strerror}{where}; {_spool_advice(error.errno)}"
    return None


def _spool_advice(code: int | None) -> str:
    if code in (errno.EACCES, errno.EPERM):
        return f"give user {os.getuid()} the right to write there, or choose another folder"
    return "choose another folder"


def _tcp_fault(address: TcpAddress) -> str | None:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"cannot be listened on: {reason}; write an address of this machine"
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(place)
            except OSError as error:
                return _bind_advice(error, address.port)
    return None


def _bind_advice(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "is already in use; stop the other program or choose another port"
        case errno.EADDRNOTAVAIL:
            return "is no address of this machine; write 0.0.0.0 or [::] for all that it has"
        case errno.EACCES:
            return (
                f"may not be used: ports below 1024 are for root; choose another port, such as {8000 + port}"
            )
        case _:
            return f"cannot be listened on: {error.strerror}"


def _unix_fault(path: str) -> str | None:
    folder = os.path.dirname(path)
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return "is there and is no socket; choose another path"
    except FileNotFoundError:
        if not os.path.isdir(folder):
            return f"cannot be made: there is no folder {folder}"
        return (
            None if os.access(folder, os.W_OK | os.X_OK) else f"cannot be made: no right to write in {folder}"
        )
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:  # nobody listens: what an earlier run left behind is replaced
            return None
    return "is already in use; stop the other program or choose another path"
