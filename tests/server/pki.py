"""Certificates for tests, and adapters that listen for TLS."""

import ssl
from pathlib import Path
from typing import Any

import trustme

from tests.conftest import Adapter, StartAdapter


class Pki:
    """A certificate authority, and the files that the adapter reads."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self._authority = trustme.CA()
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)
        self.renew()

    def renew(self, *, key: bool = True) -> None:
        issued = self._authority.issue_cert("127.0.0.1")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        if key:
            self.key.write_bytes(issued.private_key_pem.bytes())

    @property
    def config(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "key": str(self.key)}


def over_tls(start: StartAdapter, pki: Pki) -> StartAdapter:
    """Starts the same adapters, which listen for TLS."""

    async def starting(*, server: dict[str, Any] | None = None, **sections: Any) -> Adapter:
        server = {"listen": "https://127.0.0.1:0", "tls": pki.config, **(server or {})}
        adapter = await start(server=server, **sections)
        adapter.tls = pki.client
        return adapter

    return starting
