"""What goes on to the origin, and back to the client (RFC 9110 section 7.6, RFC 7239).

The relay passes a request on as it is, apart from what belongs to a hop.  A fill asks for many clients at
once, so it sends less, and nothing by which one client could spoil the stored answer for the others
("cache-poisoned denial of service"): no range and no conditions, no cache directives, no method or URL
overrides, and host and scheme only as they stand in the cache key (no client's host, where the key has none).
Other fields go along, because origins need them to answer at all: credentials, User-Agent, Accept, Referer,
Origin, and what a `Vary` may name.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, TypeAlias

from multidict import CIMultiDict

from proxy.semantics.fields import HOP_BY_HOP, Fields, end_to_end, joined, list_members
from proxy.semantics.key import WITHHELD, KeyRules, accept_encoding, told_cookies
from proxy.semantics.request import ClientRequest

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network | Literal["unix"]
"""Peers to trust: by their addresses, or those that come by a Unix socket."""

UNIX: Final = "unix"
"""The `peer` of a request that came by a Unix socket."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BRACKETED: Final = re.compile(r"\[([^\[\]]+)\](?::[0-9]+)?")


def host_field(policy: str, origin_authority: str) -> str | None:
    """The Host for an origin: `origin` (its own authority), `preserve` (None: the client's), or a literal."""
    match policy:
        case "origin":
            return origin_authority
        case "preserve":
            return None
        case literal:
            return literal


def to_origin(
    request: ClientRequest,
    *,
    host: str | None,
    via: str,
    trusted_peer: bool,
    upgrade: str | None = None,
) -> CIMultiDict[str]:
    """The fields of a relayed request: the end-to-end ones, with this hop added to the trail.

    `host` is what `host_field` chose, `via` our pseudonym in Via.  What a trusted peer tells of the hops
    before it is kept and appended to; from anyone else it is replaced.  `upgrade` is the protocol to ask for,
    where the relay is ready to switch (RFC 9110 section 7.8).
    """
    fields = _passed_on(request, host, trusted_peer)
    _add_hop(fields, request, via, node=request.peer)
    if upgrade is not None:
        fields["Connection"] = "Upgrade"
        fields["Upgrade"] = upgrade
    return fields


def fill_fields(
    request: ClientRequest,
    *,
    host: str | None,
    key: KeyRules,
    ignore_cookies: Sequence[str],
    via: str,
    trusted_peer: bool,
) -> CIMultiDict[str]:
    """The fields of a fill's GET: those of a relayed one that the stored answer's later readers can share.

    Of a trusted peer's trail only the addresses go on: host and scheme are the ones in the cache key.  Without
    the host in `key`, the answer is for all hosts: the origin hears of none but `host`, which is not None then.
    Cookies that match `ignore_cookies` do not go on.
    """
    if "host" not in key.parts:
        assert host is not None, "config refuses to preserve a host that is not in the key"
        request = replace(request, host=host)
    passed = _passed_on(request, host, trusted_peer)
    fields = CIMultiDict((name, value) for name, value in passed.items() if not _is_withheld(name))
    _add_hop(fields, request, via, node=request.client)
    fields["Accept-Encoding"] = accept_encoding(request)
    if "Cookie" in fields:
        del fields["Cookie"]
        if (cookies := told_cookies(request.fields, ignore_cookies)) is not None:
            fields["Cookie"] = cookies
    return fields


def to_client(fields: Fields, *, via: str, version: tuple[int, int] = (1, 1)) -> CIMultiDict[str]:
    """The end-to-end fields of an answer that came in HTTP `version`, with us appended to Via."""
    passed = CIMultiDict(
        (name, value) for name, value in end_to_end(fields).items() if not _is_for_proxies(name)
    )
    _append(passed, "Via", _via(version, via))
    return passed


# --- What is left out -----------------------------------------------------------------------------


def _passed_on(request: ClientRequest, host: str | None, trusted_peer: bool) -> CIMultiDict[str]:
    passed = CIMultiDict({"Host": request.host if host is None else host})
    for name, value in end_to_end(request.fields).items():
        # A trusted proxy cleans the fields it knows, seldom their spelling with underscores.
        believed = not _is_provenance(name) or (trusted_peer and "_" not in name)
        if believed and not _is_for_proxies(name) and name.lower() != "host":
            passed.add(name, value)
    return passed


def _canonical(name: str) -> str:
    # CGI and WSGI origins read `X_Forwarded_For` as `X-Forwarded-For`.
    return name.lower().replace("_", "-")


def _is_provenance(name: str) -> bool:
    """Whether a field tells where the request came from; anyone may write a Via, which proves nothing."""
    canonical = _canonical(name)
    return canonical in ("forwarded", "x-real-ip") or canonical.startswith("x-forwarded-")


def _is_for_proxies(name: str) -> bool:
    # `Proxy` alone would become a CGI origin's HTTP_PROXY ("httpoxy").
    canonical = _canonical(name)
    return canonical == "proxy" or canonical.startswith("proxy-")


def _is_withheld(name: str) -> bool:
    if _is_provenance(name):
        return name.lower() != "x-forwarded-for"
    # CGI origins would take `Transfer_Encoding` for what frames our own request.
    return _canonical(name) in WITHHELD or _canonical(name) in HOP_BY_HOP


# --- What is added --------------------------------------------------------------------------------


def _add_hop(fields: CIMultiDict[str], request: ClientRequest, via: str, *, node: str) -> None:
    """Appends this hop; `node` is whom `Forwarded` names as its other end."""
    if (peer := _parse_address(request.peer)) is not None:
        _append(fields, "X-Forwarded-For", str(peer))
    fields.setdefault("X-Forwarded-Proto", request.scheme)
    fields.setdefault("X-Forwarded-Host", request.host)
    element = f"for={_forwarded_node(node)};host={_token_or_quoted(request.host)};proto={request.scheme}"
    _append(fields, "Forwarded", element)
    _append(fields, "Via", _via(request.version, via))


def _append(fields: CIMultiDict[str], name: str, member: str) -> None:
    earlier = joined(fields, name)
    fields[name] = f"{earlier}, {member}" if earlier else member


def _via(version: tuple[int, int], pseudonym: str) -> str:
    return f"{version[0]}.{version[1]} {pseudonym}"


def _forwarded_node(peer: str) -> str:
    # RFC 7239 section 6: IPv6 in brackets and quotes; `unknown` for what has no address, a Unix socket say.
    match _parse_address(peer):
        case IPv4Address() as address:
            return str(address)
        case IPv6Address() as address:
            return f'"[{address}]"'
        case None:
            return "unknown"


def _token_or_quoted(text: str) -> str:
    if _TOKEN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- Who is the client? ---------------------------------------------------------------------------


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a peer is in one of the networks whose word we take; what is no address is in none."""
    if peer == UNIX:
        return UNIX in trusted
    address = _parse_address(peer)
    return address is not None and _is_in(address, trusted)


def client_address(peer: str, fields: Fields, trusted: Sequence[Network]) -> str:
    """The address that trusted proxies vouch for: `peer`, or the first untrusted one in X-Forwarded-For.

    The field is read from the right, as its members were appended.  Whatever stands left of an untrusted
    address, or of a member that is no address, is hearsay.
    """
    believed, is_believed = _parse_address(peer), is_trusted(peer, trusted)
    for member in reversed(list_members(joined(fields, "X-Forwarded-For") or "")):
        hop = _parse_address(member)
        if hop is None or not is_believed:
            break
        believed, is_believed = hop, _is_in(hop, trusted)
    return peer if believed is None else str(believed)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(network != UNIX and address in network for network in networks)


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    """An address, with or without brackets and port; IPv4 in IPv6's clothes is IPv4."""
    if bracketed := _BRACKETED.fullmatch(text):
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
