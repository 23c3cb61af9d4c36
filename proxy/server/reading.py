"""The door: aiohttp's request, checked and frozen as a `ClientRequest`."""

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from proxy.errors import ClientError, MethodNotAllowed
from proxy.semantics.fields import Fields, joined, list_members
from proxy.semantics.forward import UNIX, Network, client_address, is_trusted
from proxy.semantics.request import ClientRequest

OVER_TLS: Final = b"https "

_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


def read_request(request: web.BaseRequest, trusted: Sequence[Network]) -> ClientRequest:
    """Raises ClientError for what HTTP/1.1 forbids and the parser lets through (RFC 9112 section 3)."""
    if request.method == "CONNECT":
        raise MethodNotAllowed("a reverse proxy opens no tunnels")
    _check_framing(request)
    scheme = "https" if _is_over_tls(request) else "http"
    target, authority = request.raw_path, _host_field(request)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:  # section 3.2.2: its authority replaces Host; its scheme is only a claim
        authority, target = absolute[1], absolute[2] or "/"
        if target.startswith("?"):
            target = f"/{target}"
    is_server_wide = target == "*" and request.method == "OPTIONS"
    if not (target.startswith("/") or is_server_wide) or "#" in target:
        raise ClientError("the request target is malformed", reason="bad-target")
    peer = request.remote or UNIX
    if is_trusted(peer, trusted):
        scheme = _last(request.headers, "X-Forwarded-Proto", {"http", "https"}) or scheme
        authority = _last(request.headers, "X-Forwarded-Host") or authority
    if not _AUTHORITY.fullmatch(authority):
        raise ClientError("the host is malformed", reason="bad-host")
    path, mark, query = target.partition("?")
    return ClientRequest(
        method=request.method,
        target=target,
        path=path,
        query=query if mark else None,
        scheme=scheme,
        host=authority.lower(),
        fields=request.headers,
        peer=peer,
        client=client_address(peer, request.headers, trusted),
        version=(request.version.major, request.version.minor),
        has_body=request.body_exists,
    )


def first_lines(request: web.BaseRequest) -> bytes | None:
    """A request's first line and Host, as browsers begin with them; None where it has no Host.  `OVER_TLS` is before
    them, where it was.
    """
    host = request.headers.get("Host")
    if host is None:
        return None
    lines = f"{request.method} {request.raw_path} HTTP/1.1\r\nHost: {host}".encode("utf-8", "surrogateescape")
    return OVER_TLS + lines if _is_over_tls(request) else lines


def _is_over_tls(request: web.BaseRequest) -> bool:
    transport = request.transport
    return transport is not None and transport.get_extra_info("sslcontext") is not None


def _check_framing(request: web.BaseRequest) -> None:
    """Where a body ends must be beyond doubt (section 6.1)."""
    if request.version.major != 1:
        raise ClientError("this is a server for HTTP/1.1", reason="bad-version")
    coding = joined(request.headers, "Transfer-Encoding")
    if coding is not None and (request.version < (1, 1) or coding.lower() != "chunked"):
        raise ClientError("the transfer coding is not understood", reason="bad-framing")


def _host_field(request: web.BaseRequest) -> str:
    hosts = request.headers.getall("Host", [])
    if len(hosts) > 1 or (not hosts and request.version >= (1, 1)):
        raise ClientError("exactly one Host field is needed", reason="bad-host")
    return hosts[0] if hosts else _own_address(request)


def _own_address(request: web.BaseRequest) -> str:
    """Where the client reached us, for those of HTTP/1.0 that do not say whom they want (section 3.3)."""
    name = None if request.transport is None else request.transport.get_extra_info("sockname")
    if not isinstance(name, tuple):
        return ""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _last(fields: Fields, name: str, known: set[str] | None = None) -> str | None:
    """What the nearest proxy says."""
    members = list_members(joined(fields, name) or "")
    return members[-1] if members and (known is None or members[-1] in known) else None
