"""A client's request as the rest of the house sees it: parsed once at the door, then frozen."""

from dataclasses import dataclass

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
