"""The config's shape: frozen sections, every key with its default and its description.

Durations are seconds (`Duration`, a float), sizes are bytes (`Size`, an int); both print as they are written.
`schema()` is this module as JSON Schema: the lines below a key are what an editor shows.
"""

import os
import re
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic.json_schema import GenerateJsonSchema

from proxy.config.addresses import (
    AddressValue,
    HostHeader,
    HostPattern,
    ListenValue,
    Method,
    NetworkValue,
    OriginUrlValue,
    PathPrefix,
    TcpAddress,
    UnixAddress,
)
from proxy.config.caching import Cache, Cors, Ranges
from proxy.config.scalars import (
    Duration,
    DurationValue,
    Flag,
    Secret,
    Size,
    SizeValue,
    Text,
    TimeoutValue,
    Token,
    read_text,
    whole_number,
)
from proxy.config.section import OneOrMore, Section


def read_regex(value: object) -> re.Pattern[str]:
    text = read_text(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubtful style is no error
            return re.compile(text)
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos + 1}"
        raise ValueError(f"cannot read {text!r} as a regular expression: {error.msg}{place}") from None
    except (OverflowError, RecursionError):
        raise ValueError("the regular expression is too large") from None


Regex = Annotated[re.Pattern[str], PlainValidator(read_regex, json_schema_input_type=str)]


class ServerTimeouts(Section):
    """How long the server waits for clients."""

    head: TimeoutValue = Duration(15)
    """For the whole head of a request: from its first byte, on a new connection from its beginning."""
    send_idle: TimeoutValue = Duration(60)
    """A client that takes no byte, or sends none of a body it has announced, for this long is cut off."""
    drain: DurationValue = Duration(30)
    """On SIGTERM, running answers may finish within this time."""
    keep_alive: TimeoutValue = Duration(75)
    """An idle connection is closed after this time."""


class ServerLimits(Section):
    """What clients may take up.  Past it, they get 503 (connections), 431 (heads), or are cut off."""

    connections: Annotated[int, PlainValidator(whole_number(1, 1_000_000), json_schema_input_type=int)] = 4096
    """Open at the same time; fewer, if the limit of open files allows no more: that is in the log."""
    connections_per_client: Annotated[
        int, PlainValidator(whole_number(1, 1_000_000), json_schema_input_type=int)
    ] = 1024
    """Of one address (of IPv6: one /64).  Not for `trusted_proxies` and Unix sockets, which are many clients."""
    fields: Annotated[int, PlainValidator(whole_number(16, 10_000), json_schema_input_type=int)] = 128
    """Header fields of one request."""
    head_size: SizeValue | None = None
    """The request line and all fields of one request, together.  Default: four times `max_header_size`."""
    send_rate: SizeValue = Size(100)
    """In a second, on average over `send_idle`: a client that takes less of an answer, or sends less of a body, is
    cut off.  `0B`: whatever it takes."""


class Tls(Section):
    """What listeners given as `https://` show.  Read again when the files change, and on SIGHUP."""

    certificate: Text
    """A file: the certificate, and behind it those that lead to its root (PEM; certbot's `fullchain.pem`)."""
    key: Text
    """A file: its private key, without a password (PEM; certbot's `privkey.pem`)."""


class Server(Section):
    """The listeners that clients talk to."""

    name: Token = "range-adapter"
    """What this instance calls itself in `Via` and `Cache-Status`."""
    listen: OneOrMore[ListenValue] = Field((TcpAddress("127.0.0.1", 8080),), min_length=1)
    """Addresses to listen on: `host:port`, `[::1]:port` or `unix:/path`; `https://host:port` for TLS (see `tls`)."""
    tls: Tls | None = None
    """The certificate of the listeners given as `https://`."""
    workers: Annotated[int, PlainValidator(whole_number(1, 64), json_schema_input_type=int)] = 1
    """Processes that answer clients, on the same addresses and one spool."""
    trusted_proxies: OneOrMore[NetworkValue] = ()
    """Networks of proxies whose `X-Forwarded-*` fields are believed; `unix` for a Unix socket."""
    purge_from: OneOrMore[NetworkValue] = ()
    """Peers whose `PURGE` is obeyed: networks, or `unix`.  Without any, it is a method like all others."""
    max_header_size: Annotated[SizeValue, Field(ge=1024, le=1024 * 1024)] = Size(8 * 1024)
    """The longest request line and the longest header field that are accepted; longer ones get 431 or 414."""
    limits: ServerLimits = Field(default_factory=ServerLimits)
    timeouts: ServerTimeouts = Field(default_factory=ServerTimeouts)
    server_timing: Flag = False
    """Whether answers of adapted routes carry `Server-Timing: cache;dur=`, the milliseconds up to their head."""
    cache_status_key: Flag = False
    """Whether `Cache-Status` names the cache key, to find out why something is fetched twice."""


class Admin(Section):
    """The listener for health, metrics and status; keep it away from clients."""

    listen: AddressValue | None = TcpAddress("127.0.0.1", 9090)
    """`host:port` or `unix:/path`; `null` switches it off."""
    token: Secret | None = Field(None, repr=False)
    """What a request that changes something must bring.  Default: a new one, in the spool's file `admin-token`."""


def default_spool_path(env: Mapping[str, str]) -> str:
    """The service manager's cache folder, else the user's."""
    if given := env.get("CACHE_DIRECTORY", "").partition(":")[0]:  # systemd lists several with colons
        return given
    if os.path.isabs(user_cache := env.get("XDG_CACHE_HOME", "")):
        return os.path.join(user_cache, "range-adapter")
    return os.path.join(env.get("HOME") or os.path.expanduser("~"), ".cache", "range-adapter")


class Spool(Section):
    """The folder on the local disk that objects are kept in."""

    path: Text = Field(default_factory=lambda: default_spool_path(os.environ))
    """The folder; made if missing.  Default: `$CACHE_DIRECTORY`, else `range-adapter` in the user's cache."""
    max_size: SizeValue = Size(10 * 1024**3)
    """What all objects together may take; the least recently used go first."""
    max_object_size: SizeValue = Size(4 * 1024**3)
    """A larger object is passed through and not kept."""
    min_free: SizeValue = Size(1024**3)
    """Room that is left free on the disk, whatever `max_size` says; a little is in any case, for the index."""
    partition_ttl: DurationValue = Duration(300)
    """What is kept for one credential alone goes when that credential has not been seen for this long."""
    partition_size: SizeValue = Size(2 * 1024**3)
    """What is kept for single credentials may take, all together."""
    partitions_per_client: Annotated[
        int, PlainValidator(whole_number(0, 10_000), json_schema_input_type=int)
    ] = 32
    """Credentials of one client address that something is kept for at the same time."""
    scrub_rate: SizeValue = Size(8 * 1024**2)
    """Bytes a second at which stored objects are read again, to find those that the disk has spoilt; `0B`: never."""
    scrub_interval: TimeoutValue = Duration(7 * 86_400)
    """From the begin of one such pass to that of the next."""


class OriginTimeouts(Section):
    """How long to wait for an origin."""

    connect: TimeoutValue = Duration(5)
    """For a connection."""
    first_byte: TimeoutValue = Duration(30)
    """For the head of an answer."""
    idle: TimeoutValue = Duration(60)
    """For the next bytes of a body."""
    resume: DurationValue = Duration(60)
    """Where it broke off a body: for so long it is asked again, and clients wait; 0s gives up at once."""
    queue: TimeoutValue = Duration(10)
    """For the turn of a request, where others are in its way; then it gets 503."""


Count = Annotated[int, PlainValidator(whole_number(1, 10_000), json_schema_input_type=int)]


class Origin(Section):
    """One legacy server."""

    url: OriginUrlValue
    """`http://` or `https://`, a host, a port if need be, and a base path if need be."""
    host: HostHeader = "origin"
    """The `Host` field it gets: `origin` (the one of the url), `preserve` (the client's), or a name."""
    timeouts: OriginTimeouts = Field(default_factory=OriginTimeouts)
    max_connections: Count = 32
    """Connections to it at the same time; further requests wait."""
    max_fills: Count | None = None
    """How many of them fetch objects to be stored, at most.  Default: three quarters of `max_connections`."""
    fills_per_client: Count | None = None
    """How many of those for one client address at the same time.  Default: two thirds of `max_fills`."""
    max_waiting: Annotated[int, PlainValidator(whole_number(0, 10_000), json_schema_input_type=int)] = 256
    """Requests that wait for their turn; further ones get 503 at once."""

    @property
    def fills(self) -> int:
        """`max_fills`, or its default."""
        return self.max_fills or max(1, self.max_connections * 3 // 4)

    @property
    def client_fills(self) -> int:
        """`fills_per_client`, or its default."""
        return self.fills_per_client or max(1, self.fills * 2 // 3)


class Defaults(Section):
    """What holds for every route that does not say otherwise, key by key."""

    cache: Cache = Field(default_factory=Cache)
    ranges: Ranges = Field(default_factory=Ranges)
    cors: Cors | None = None
    """Off where it is absent or `null`."""


class Match(Section):
    """Which requests a route takes: those that meet all that is said here."""

    host: OneOrMore[HostPattern] = ()
    """`media.example.com`, or `*.example.com` for all below it; any port unless one is given."""
    path_prefix: PathPrefix | None = None
    """Whole segments: `/films` takes `/films` and `/films/x`, but not `/filmsx`."""
    path_regex: Regex | None = None
    r"""A Python regular expression that the decoded path must contain: `\.(mp4|pdf)$`."""
    methods: OneOrMore[Method] = ()
    """`GET` includes `HEAD`."""


class Rewrite(Section):
    """What happens to the path on its way to the origin; first `strip_prefix`, then `add_prefix`."""

    strip_prefix: PathPrefix | None = None
    """Whole segments to take from the beginning, where they are there."""
    add_prefix: PathPrefix | None = None
    """What to put before the rest."""


class Route(Section):
    """One rule; the first that matches a request takes it."""

    name: Text = ""
    """For logs, metrics and `explain`.  Default: `route-1`, `route-2` ..."""
    match: Match = Field(default_factory=Match)
    origin: Text | None = None
    """A name of `origins`; may be left out when there is only one."""
    mode: Literal["adapt", "passthrough", "deny"] = "adapt"
    """`adapt`: answer ranges from the spool; `passthrough`: hand everything on as it is; `deny`: 403."""
    rewrite: Rewrite = Field(default_factory=Rewrite)
    cache: Cache | None = None
    """Keys of `defaults.cache` to override."""
    ranges: Ranges | None = None
    """Keys of `defaults.ranges` to override."""
    cors: Cors | None = None
    """Keys of `defaults.cors` to override; `null` switches it off."""


class Logging(Section):
    """One line for each request, and for what goes wrong; on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console", "combined"] = "auto"
    """`auto`: `console` on a terminal, else `json`.  `combined`: access lines as Apache writes them."""
    access: Flag = True
    """Whether every request gets its line."""


class Config(Section):
    """Configuration of range-adapter, which answers byte ranges for origins that cannot."""

    version: Literal[1] = 1
    """Of this format."""
    server: Server = Field(default_factory=Server)
    admin: Admin = Field(default_factory=Admin)
    spool: Spool = Field(default_factory=Spool)
    origins: Annotated[dict[Token, Origin], Field(min_length=1)]
    """The legacy servers, by a name of your choice."""
    defaults: Defaults = Field(default_factory=Defaults)
    routes: tuple[Route, ...] = ()
    """First match wins.  Without any, and with one origin, everything goes to it."""
    logging: Logging = Field(default_factory=Logging)


class _WrittenDefaults(GenerateJsonSchema):
    """Shows defaults as they are written in the file."""

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case Size() | Duration() | TcpAddress() | UnixAddress():
                return str(dft)
            case tuple():
                return [self.encode_default(member) for member in dft]
            case _:
                return super().encode_default(dft)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file."""
    document = Config.model_json_schema(schema_generator=_WrittenDefaults)
    return {"$schema": _WrittenDefaults.schema_dialect, **document}
