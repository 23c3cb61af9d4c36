"""What is done with a request: adapted, relayed, or answered here.  The service and `explain` decide it by this."""

from enum import Enum

from proxy.semantics.cors import is_preflight
from proxy.semantics.fields import joined, list_members, parse_digits
from proxy.semantics.request import ClientRequest


class Treatment(Enum):
    """The values are how `explain` says it; all but the first three are relayed."""

    ADAPT = "adapt"
    PREFLIGHT = "answered here: preflight"
    LAST_HOP = "answered here: max-forwards"
    PASSTHROUGH = "passthrough"
    METHOD = "relayed: method"
    BODY = "relayed: body"
    UPGRADE = "relayed: upgrade"
    SERVER_WIDE = "relayed: target"


def treatment(request: ClientRequest, *, adapts: bool, cors: bool) -> Treatment:
    """`adapts`: the route adapts what it can; `cors`: it answers the questions of web pages itself."""
    if cors and is_preflight(request):
        return Treatment.PREFLIGHT
    if hops_left(request) == 0:
        return Treatment.LAST_HOP
    if not adapts:
        return Treatment.PASSTHROUGH
    if request.method not in {"GET", "HEAD"}:
        return Treatment.METHOD
    if request.has_body:
        return Treatment.BODY
    if upgrade_wanted(request) is not None:
        return Treatment.UPGRADE
    return Treatment.SERVER_WIDE if request.target == "*" else Treatment.ADAPT


def upgrade_wanted(request: ClientRequest) -> str | None:
    """The protocol that a request asks to switch to, if it is one that we can tunnel (RFC 9110 section 7.8)."""
    fields = request.fields
    connection = [option.lower() for option in list_members(joined(fields, "Connection") or "")]
    protocol = joined(fields, "Upgrade")
    able = request.method == "GET" and request.version >= (1, 1) and "upgrade" in connection
    return protocol if able and protocol is not None and protocol.lower() == "websocket" else None


def hops_left(request: ClientRequest) -> int | None:
    """How many times the request may be forwarded; None: as often as it takes (RFC 9110 section 7.6.2)."""
    if request.method not in {"OPTIONS", "TRACE"}:
        return None
    value = joined(request.fields, "Max-Forwards")
    return None if value is None else parse_digits(value)
