"""One tree of errors: whose fault it was, and which status tells the client so.

AdapterError
├── ClientError      the request cannot be served as it stands (4xx)
├── OriginError      the origin failed us (502, 504)
├── SpoolError       our disk failed us; a request can usually still be served without it
└── Overloaded       we are past a limit of ours (503)

Every error carries a `reason`: one lower-case token that reaches the client's short body, the log line and
`Cache-Status` (`detail=`) alike.  Foreign exceptions are mapped to these once, at the boundary that met them.
"""

from typing import ClassVar


class AdapterError(Exception):
    """Base of all errors that answer a request.  `str()` is a sentence for the log and the body."""

    status: ClassVar[int] = 500
    reason: str = "internal-error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class ClientError(AdapterError):
    """The request is at fault."""

    status = 400
    reason = "bad-request"


class Denied(ClientError):
    """A route of mode `deny` matched."""

    status = 403
    reason = "denied"


class PurgeDenied(ClientError):
    """A PURGE from a peer that may not."""

    status = 403
    reason = "purge-denied"


class NoRoute(ClientError):
    """No route matched."""

    status = 404
    reason = "no-route"


class MethodNotAllowed(ClientError):
    """CONNECT, and what else a reverse proxy must not do."""

    status = 405
    reason = "method-not-allowed"


class UploadTimeout(ClientError):
    """The client stopped sending a body that it had announced (RFC 9110 section 15.5.9)."""

    status = 408
    reason = "upload-timeout"


class NothingStored(ClientError):
    """A purge of what its route does not store, so that it can change nothing."""

    status = 409
    reason = "nothing-stored"


class PreconditionFailed(ClientError):
    """A precondition that is false whatever the origin has (RFC 9110 section 13.1.1)."""

    status = 412
    reason = "precondition-failed"


class UnknownHost(ClientError):
    """The host names no site of ours (RFC 9110 section 7.4)."""

    status = 421
    reason = "misdirected"


class OriginError(AdapterError):
    """The origin did not answer, or not in HTTP."""

    status = 502
    reason = "origin-error"


class OriginUnreachable(OriginError):
    """No connection: refused, reset before the head, no such name."""

    reason = "origin-unreachable"


class OriginDown(OriginUnreachable):
    """No connection at all: refused, no route, no such name.  That is nobody's request's fault."""


class OriginTimeout(OriginError):
    """No connection, no head, or no further byte in time."""

    status = 504
    reason = "origin-timeout"


class ConnectTimeout(OriginTimeout):
    """No connection in time.  Nobody's request's fault either."""


class OriginMalformed(OriginError):
    """What the origin sent is not HTTP, or contradicts itself."""

    reason = "origin-malformed"


class OriginTruncated(OriginError):
    """The origin's body ended before its end."""

    reason = "origin-truncated"


class Unconfirmed(OriginError):
    """What is stored was to be compared with what the origin has, and an answer from it begun meanwhile."""


class ObjectChanged(Unconfirmed):
    """The origin has something else by now."""

    reason = "object-changed"


class NotCompared(Unconfirmed):
    """The origin failed before that was known."""


class NotValidated(OriginError):
    """The origin failed, and what is stored must not be served without its word (RFC 9111 section 5.2.2.2)."""

    status = 504


class SpoolError(AdapterError):
    """The spool folder cannot be read or written: that is looked after, and trying again later may help."""

    status = 503
    reason = "spool-error"


class BodyLost(SpoolError):
    """The disk does not give back what was stored: another body has to be fetched."""


class SpoolInUse(SpoolError):
    """Another process keeps the folder."""


class SpoolFull(SpoolError):
    """No room, even after eviction."""

    reason = "spool-full"


class SpoolSuspended(SpoolError):
    """The disk failed a moment ago, so that it is not tried now; that it did stands in the log already."""

    reason = "spool-degraded"


class Overloaded(AdapterError):
    """A limit of ours is reached; trying again later may help."""

    status = 503
    reason = "overloaded"


class KeeperLost(Overloaded):
    """The worker that keeps the spool has ended; another one takes its place."""

    reason = "keeper-lost"


class OnlyIfCached(AdapterError):
    """The client wanted a stored answer only, and there is none (RFC 9111 section 5.2.1.7)."""

    status = 504
    reason = "only-if-cached"
