"""A client's request as the rest of the house sees it: parsed once at the door, then frozen."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from proxy.semantics.fields import Fields


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One request.

    `method` and `target` stand exactly as they came (methods are case-sensitive; percent-encoding, a bare
    trailing `?` and doubled slashes mean something to some origin).  `path` and `query` are the raw halves of
    the target; `query` is None without a `?` and "" with a bare one.  `host` is what the client asked for
    (`Host`, the authority of an absolute-form target, or a trusted proxy's word), lower-cased, port included
    where it was sent.  `peer` is the socket's other end; `client` the address that trusted proxies vouch for.
    """

    method: str
    target: str
    path: str
    query: str | None
    scheme: str
    host: str
    fields: Fields
    peer: str
    client: str
    version: tuple[int, int] = (1, 1)
    has_body: bool = False


def network(client: str) -> str:
    """What one client has of addresses: of IPv6, 64 bits are its own to choose.  Other words stand for themselves."""
    try:
        address = ip_address(client)
    except ValueError:  # a Unix socket
        return client
    if not isinstance(address, IPv6Address):
        return client
    return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
