"""Values of the config that name something on the network: listen addresses, origin URLs, hosts, paths."""

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator

from proxy.config.scalars import read_text, read_token, source_text, text_schema

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]

_LABELS: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
_HOST: Final = re.compile(rf"{_LABELS}|\[[0-9A-Fa-f:.]+\]")
_HOST_PATTERN: Final = re.compile(rf"(?:\*\.)?(?:{_LABELS}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+))?")
_WEB_ORIGIN: Final = re.compile(
    r"\*|null|[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)
_MEDIA_TYPE: Final = re.compile(r"\*/\*|[a-z0-9!#$&^_.+-]+/(?:\*|[a-z0-9!#$&^_.+-]+)")
_DOT_SEGMENT: Final = re.compile(r"(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\;]|%2f|%5c|%3b|$)", re.IGNORECASE)
_LONGEST_SOCKET_PATH: Final = 107  # bytes; sockaddr_un on Linux
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (a name or an address, IPv6 without brackets) and a port; with port 0 the system chooses."""

    host: str
    port: int
    tls: bool = False
    """Is TLS spoken there?"""

    def __str__(self) -> str:
        return f"{'https://' if self.tls else ''}{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The absolute path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def read_address(value: object) -> Address:
    """`host:port`, `[::1]:port` or `unix:/path`."""
    text = source_text(value)
    if text.startswith(("unix:", "/")):
        return _unix_address(text.removeprefix("unix:"), text)
    host, _, port = text.rpartition(":")
    if not host and port.isascii() and port.isdigit():
        raise ValueError(
            f"{text!r} names no host; write 127.0.0.1:{port} (this machine only) or 0.0.0.0:{port} (everyone)"
        )
    if not _HOST.fullmatch(host):
        raise ValueError(
            f"cannot listen on {text!r}; write 127.0.0.1:8080, [::1]:8080 or unix:/run/range-adapter.sock"
        )
    return TcpAddress(host.strip("[]").lower(), _port(port, text))


def read_listen_address(value: object) -> Address:
    """What `read_address` reads; with `https://` before host and port, for TLS."""
    text = source_text(value)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return read_address(value)
    if scheme.lower() == "http":
        raise ValueError(f"plain HTTP takes no scheme; write {rest.rstrip('/')}")
    if scheme.lower() != "https":
        raise ValueError(f"cannot listen for {scheme}://; write https://0.0.0.0:8443, or host and port alone")
    address = read_address(rest.rstrip("/"))
    if isinstance(address, UnixAddress):
        raise ValueError("a Unix socket takes no TLS; write it without https://")
    return replace(address, tls=True)


def _unix_address(path: str, text: str) -> UnixAddress:
    if text == path:
        raise ValueError(f"cannot listen on {text!r}; write unix:{text} for a Unix socket")
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f"{text!r} is not an absolute path; write unix:/run/range-adapter.sock")
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"a Unix socket's path has at most {_LONGEST_SOCKET_PATH} bytes; choose a shorter one"
        )
    return UnixAddress(path)


def _port(digits: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", digits) or int(digits) > 65_535:
        raise ValueError(f"{digits!r} in {text!r} is not a port; ports are numbers up to 65535")
    return int(digits)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class OriginUrl:
    """Where an origin is.  `path`, the base, has no slash at its end: "" or "/legacy"; `host` no brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port as a `Host` field says them: no port where it is the scheme's own."""
        host = _bracketed(self.host)
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @classmethod
    def read(cls, value: object) -> Self:
        text = read_text(value)
        scheme, separator, _ = text.partition("://")
        if "@" in text:
            raise ValueError("must not hold a user or a password, which logs would show; take it out")
        if not separator:
            raise ValueError(f"{text!r} has no scheme; write http://{text.lstrip('/')}")
        if scheme.lower() not in _DEFAULT_PORTS:
            raise ValueError(f"cannot fetch from {scheme}://; write http:// or https://")
        if not text.isascii() or " " in text or "\\" in text:
            raise ValueError(f"{text!r} has characters that no URL has; percent-encode them")
        if "?" in text or "#" in text:
            raise ValueError(f"{text!r} has more than a path; write the part before the ? or #")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"cannot read {text!r} as a URL: {error}") from None
        host = parts.hostname or ""
        if not _HOST.fullmatch(_bracketed(host)):
            raise ValueError(f"{text!r} names no host; write http://legacy.internal:8000")
        if _DOT_SEGMENT.search(parts.path):
            raise ValueError(f"{text!r} has dot segments; write the path that they lead to")
        known: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        return cls(known, host, _DEFAULT_PORTS[known] if port is None else port, parts.path.rstrip("/"))


def split_port(authority: str) -> tuple[str, str]:
    """Host and port of `host`, `host:port` or `[::1]:port`; the port is "" where there is none."""
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and not port.endswith("]") else (authority, "")


def read_network(value: object) -> Network:
    """A network, an address, or `unix`: whoever may open our Unix socket."""
    text = read_text(value)
    if text == "unix":
        return "unix"
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write 10.0.0.0/8, 192.0.2.7, ::1 or unix") from None
    raise ValueError(f"{text!r} is an address inside a network; write {wider}")


def read_host_header(value: object) -> str:
    """`origin`, `preserve`, or a host to send instead."""
    text = read_text(value)
    if not _HOST_PATTERN.fullmatch(text.lower()) or "*" in text:
        raise ValueError(
            f"{text!r} is not a host; write origin, preserve, or a name such as media.example.com"
        )
    return text


def read_host_pattern(value: object) -> str:
    """A host, or `*.example.com` for all below it; with a port or without.  Lower case, no last dot."""
    text = read_text(value).lower()
    match = _HOST_PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a host; write media.example.com, or *.example.com for all below it"
        )
    if match["port"] is None:
        return text.rstrip(".")
    host = text.removesuffix(f":{match['port']}").rstrip(".")
    return f"{host}:{_port(match['port'], text)}"


def read_path_prefix(value: object) -> str:
    """The beginning of a path, from its first slash."""
    text = read_text(value)
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with a slash; write /{text}")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r} has more than a path; write the part before the ? or #")
    if _DOT_SEGMENT.search(text):
        raise ValueError(f"{text!r} has dot segments; write the path that they lead to")
    if text.endswith("*"):
        raise ValueError(f"a prefix takes no '*': it is for all that begins so; write {text.rstrip('*')}")
    return text


def read_method(value: object) -> str:
    text = read_token(value)
    if text != text.upper():
        raise ValueError(f"methods are written in capitals; write {text.upper()}")
    return text


def read_web_origin(value: object) -> str:
    """`*`, or scheme, host and port as a browser's `Origin` field says them."""
    text = read_text(value)
    if not _WEB_ORIGIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a web origin; write * or https://app.example.com, lower case, without a path"
        )
    return text


def read_media_type(value: object) -> str:
    text = read_text(value).lower()
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"{text!r} is not a media type; write video/mp4 or video/*")
    return text


AddressValue = Annotated[
    Address,
    PlainValidator(
        read_address,
        json_schema_input_type=text_schema(
            r".+:[0-9]{1,5}|unix:/.+", "127.0.0.1:8080", "unix:/run/range-adapter.sock"
        ),
    ),
]
ListenValue = Annotated[
    Address,
    PlainValidator(
        read_listen_address,
        json_schema_input_type=text_schema(
            r"(https://)?[^/]+:[0-9]{1,5}|unix:/.+",
            "127.0.0.1:8080",
            "https://0.0.0.0:8443",
            "unix:/run/range-adapter.sock",
        ),
    ),
]
OriginUrlValue = Annotated[
    OriginUrl,
    PlainValidator(
        OriginUrl.read, json_schema_input_type=text_schema("https?://[^?#@]+", "http://legacy.internal:8000")
    ),
]
NetworkValue = Annotated[Network, PlainValidator(read_network, json_schema_input_type=str)]
HostHeader = Annotated[str, BeforeValidator(read_host_header, json_schema_input_type=str)]
HostPattern = Annotated[str, BeforeValidator(read_host_pattern, json_schema_input_type=str)]
PathPrefix = Annotated[
    str, BeforeValidator(read_path_prefix, json_schema_input_type=text_schema("/.*", "/films/"))
]
Method = Annotated[str, BeforeValidator(read_method, json_schema_input_type=str)]
WebOrigin = Annotated[str, BeforeValidator(read_web_origin, json_schema_input_type=str)]
MediaType = Annotated[str, BeforeValidator(read_media_type, json_schema_input_type=str)]
