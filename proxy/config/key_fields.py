"""Fields of a request that may be part of a key: those that the origin hears as the client says them."""

from typing import Annotated, Final

from pydantic import BeforeValidator

from proxy.config.scalars import read_token

_RANGES: Final = "an object is stored whole, and ranges are cut from it; leave it out"
_VALIDATION: Final = "conditions are answered from what is stored; leave it out"
_DIGESTS: Final = "digests are of what is stored; leave it out"
_HOP: Final = "it speaks of one connection, and the origin never hears it; leave it out"
_DIRECTIVES: Final = "it says how an answer may be stored, not which one; leave it out"
_BODY: Final = "it speaks of a body, and what is stored is asked for without one; leave it out"
_TRAIL: Final = "clients can claim anything there; write host in key, or a field that your proxy sets"
_OVERRIDES: Final = "it can make an origin answer another request than the one in the key; leave it out"

_REASONS: Final = {
    "cookie": "answers to cookies are kept apart already; name in ignore_cookies those that do not count",
    "authorization": "answers to credentials are kept apart already; write authorize or shared",
    "host": "it has a word of its own; write host in key",
    "accept-encoding": "codings are told apart already, by what the origin's Vary says; leave it out",
    "range": _RANGES,
    "request-range": _RANGES,
    "cache-control": _DIRECTIVES,
    "pragma": _DIRECTIVES,
    "forwarded": _TRAIL,
    "x-real-ip": _TRAIL,
    "expect": _HOP,
    "max-forwards": _HOP,
    "proxy": _HOP,
    **dict.fromkeys(("content-encoding", "content-length", "content-type"), _BODY),
    **dict.fromkeys(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"), _HOP),
    **dict.fromkeys(("a-im", "base-url", "destination", "front-end-https", "http-url"), _OVERRIDES),
    **dict.fromkeys(("request-uri", "surrogate-capability", "translate", "x-accel-redirect"), _OVERRIDES),
    **dict.fromkeys(("x-envoy-original-path", "x-host", "x-method", "x-method-override"), _OVERRIDES),
    **dict.fromkeys(
        ("x-middleware-subrequest", "x-override-url", "x-proxy-url", "x-rewrite-url"), _OVERRIDES
    ),
    **dict.fromkeys(("x-scheme", "x-sendfile", "x-ssl", "x-url-scheme"), _OVERRIDES),
    **dict.fromkeys(("cf-connecting-ip", "client-ip", "true-client-ip", "x-client-ip"), _TRAIL),
    "x-cluster-client-ip": _TRAIL,
}
_BEGINNINGS: Final = {
    "if-": _VALIDATION,
    "proxy-": _HOP,
    "want-": _DIGESTS,
    "x-forwarded-": _TRAIL,
} | dict.fromkeys(("x-http-", "x-original-"), _OVERRIDES)


def read_key_field(value: object) -> str:
    """The name of a field, but for those that cannot work."""
    name = read_token(value)
    canonical = name.lower().replace("_", "-")  # as CGI origins read names
    reason = _REASONS.get(canonical) or next(
        (reason for beginning, reason in _BEGINNINGS.items() if canonical.startswith(beginning)), None
    )
    if reason is not None:
        raise ValueError(f"{name} cannot be part of a key: {reason}")
    return name


KeyField = Annotated[str, BeforeValidator(read_key_field, json_schema_input_type=str)]
