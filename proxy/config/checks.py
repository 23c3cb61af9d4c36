"""What no key can know by itself: names that must exist, routes in each other's way, addresses taken twice.

These look at every section that can be read by itself, so a slip in one section does not hide the others.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from proxy.config.addresses import Address, OriginUrl, TcpAddress
from proxy.config.caching import Cache
from proxy.config.document import Document
from proxy.config.hints import did_you_mean
from proxy.config.model import Admin, Match, Origin, Server, Spool
from proxy.config.problems import Path, Problem
from proxy.config.section import Section
from proxy.config.shadow import takes_all

AnySection = TypeVar("AnySection", bound=Section)

_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1", *_EVERY_INTERFACE})


def problems(document: Document) -> Iterator[Problem]:
    """Everything that is wrong between the sections."""
    listeners = list(_listeners(document))
    origins = document.get("origins")
    names = list(origins) if isinstance(origins, dict) else []
    routes = document.get("routes")
    yield from _taken_addresses(document, listeners)
    yield from _tls(document)
    yield from _object_size(document)
    yield from _head_size(document)
    for name in names:
        yield from _loop(document, ("origins", name), listeners)
        yield from _fills(document, ("origins", name))
    yield from _shared_but_guarded(document, routes if isinstance(routes, list) and routes else [{}])
    yield from _shared_hosts(document, routes if isinstance(routes, list) and routes else [{}], names)
    if isinstance(routes, list) and routes:
        yield from _route_origins(document, routes, names)
        yield from _route_names(document, routes)
        yield from _shadowed_routes(document, routes)
    elif not routes and len(names) > 1:
        yield document.problem(
            ("routes",), f"is missing; with {len(names)} origins, say which requests go where"
        )


def _readable(model: type[AnySection], value: object) -> AnySection | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _listeners(document: Document) -> Iterator[tuple[Path, Address]]:
    if server := _readable(Server, document.get("server")):
        for index, address in enumerate(server.listen):
            yield ("server", "listen", index), address
    if (admin := _readable(Admin, document.get("admin"))) and admin.listen:
        yield ("admin", "listen"), admin.listen


def _taken_addresses(document: Document, listeners: list[tuple[Path, Address]]) -> Iterator[Problem]:
    for index, (path, address) in enumerate(listeners):
        for _, earlier in listeners[:index]:
            if _overlap(address, earlier):
                yield document.problem(path, f"{address} is taken by {earlier}; choose another port")


def _overlap(one: Address, other: Address) -> bool:
    if not isinstance(one, TcpAddress) or not isinstance(other, TcpAddress):
        return one == other
    same_port = one.port == other.port != 0
    return same_port and (one.host == other.host or not _EVERY_INTERFACE.isdisjoint({one.host, other.host}))


def _tls(document: Document) -> Iterator[Problem]:
    """A certificate and the listeners that show it: one without the other is a slip."""
    server = _readable(Server, document.get("server"))
    if server is None:
        return
    spoken = [index for index, at in enumerate(server.listen) if isinstance(at, TcpAddress) and at.tls]
    for index in spoken if server.tls is None else ():
        what = f"{server.listen[index]} needs a certificate"
        message = f"{what}; write  server: {{tls: {{certificate: FILE, key: FILE}}}}"
        yield document.problem(("server", "listen", index), message)
    if server.tls is not None and not spoken:
        message = "is for listeners given as https://, and there is none; write  listen: https://0.0.0.0:8443"
        yield document.problem(("server", "tls"), message)


def _object_size(document: Document) -> Iterator[Problem]:
    spool = _readable(Spool, document.get("spool"))
    if spool and "max_object_size" in spool.model_fields_set and spool.max_object_size > spool.max_size:
        message = (
            f"{spool.max_object_size} is more than the spool holds; write max_size, {spool.max_size}, or less"
        )
        yield document.problem(("spool", "max_object_size"), message)


def _head_size(document: Document) -> Iterator[Problem]:
    server = _readable(Server, document.get("server"))
    size = None if server is None else server.limits.head_size
    if server is not None and size is not None and size < server.max_header_size:
        message = f"{size} is less than one field may have; write max_header_size, {server.max_header_size}, or more"
        yield document.problem(("server", "limits", "head_size"), message)


def _loop(document: Document, path: Path, listeners: list[tuple[Path, Address]]) -> Iterator[Problem]:
    origin = _readable(Origin, document.get(*path))
    for _, address in listeners if origin else ():
        if origin and isinstance(address, TcpAddress) and _leads_to(origin.url, address):
            message = f"{origin.url} is where range-adapter itself listens; name the server behind it"
            yield document.problem((*path, "url"), message)


def _fills(document: Document, path: Path) -> Iterator[Problem]:
    origin = _readable(Origin, document.get(*path))
    if origin and origin.fills > origin.max_connections:
        message = f"{origin.fills} is more than max_connections ({origin.max_connections}); raise that, or lower this"
        yield document.problem((*path, "max_fills"), message)
    if origin and origin.client_fills > origin.fills:
        message = f"{origin.client_fills} is more than max_fills ({origin.fills}); raise that, or lower this"
        yield document.problem((*path, "fills_per_client"), message)


def _leads_to(url: OriginUrl, address: TcpAddress) -> bool:
    here = address.host in _THIS_MACHINE and url.host in _THIS_MACHINE
    return url.port == address.port and (here or url.host == address.host)


def _route_origins(document: Document, routes: list[Any], names: list[str]) -> Iterator[Problem]:
    for index, route in enumerate(routes):
        path: Path = ("routes", index, "origin")
        name = document.get(*path)
        if isinstance(name, str) and name not in names:
            yield document.problem(path, f"there is no origin {name!r}; {did_you_mean(name, names)}")
        elif name is None and len(names) > 1 and isinstance(route, dict) and route.get("mode") != "deny":
            yield document.problem(path, f"is missing; write one of {', '.join(names)}")


def _shared_hosts(document: Document, routes: list[Any], names: list[str]) -> Iterator[Problem]:
    """Keys without the host, where an origin may answer by it: what one client names would be for all."""
    told: set[Path] = set()
    for index, route in enumerate(routes):
        if not isinstance(route, dict) or route.get("mode", "adapt") != "adapt":
            continue
        name = route.get("origin") or (names[0] if len(names) == 1 else None)
        if not isinstance(name, str) or document.get("origins", name, "host") != "preserve":
            continue
        paths: tuple[Path, ...] = (("routes", index, "cache", "key"), ("defaults", "cache", "key"))
        path = next((path for path in paths if document.get(*path) is not None), None)
        if path is None or path in told or not _lacks_host(document.get(*path)):
            continue
        told.add(path)
        message = (
            f"must have the host: origins.{name} is told the client's (host: preserve), and may answer by it"
        )
        yield document.problem(path, message)


def _shared_but_guarded(document: Document, routes: list[Any]) -> Iterator[Problem]:
    """One says that everybody may have it, the other that the origin decides who."""
    told: set[Path] = set()
    for index, route in enumerate(routes):
        if not isinstance(route, dict) or route.get("mode", "adapt") != "adapt":
            continue
        path, guarded = _cache_value(document, index, "authorize")
        _, shared = _cache_value(document, index, "shared")
        if guarded is None or not _is_true(shared) or path in told:
            continue
        told.add(path)
        message = "contradicts shared: true, by which everybody may have what is stored; take one of them out"
        yield document.problem(path, message)


def _cache_value(document: Document, index: int, key: str) -> tuple[Path, object]:
    """What holds for a route, and where that stands."""
    own: Path = ("routes", index, "cache", key)
    section = document.get("routes", index, "cache")
    path: Path = own if isinstance(section, dict) and key in section else ("defaults", "cache", key)
    return path, document.get(*path)


def _is_true(value: object) -> bool:
    section = _readable(Cache, {"shared": value})
    return section is not None and section.shared


def _lacks_host(key: object) -> bool:
    return "host" not in key if isinstance(key, list) else isinstance(key, str) and key != "host"


def _route_names(document: Document, routes: list[Any]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index in range(len(routes)):
        path: Path = ("routes", index, "name")
        name = document.get(*path)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield document.problem(
                path, f"{name!r} is the name of routes[{first[name]}] already; choose another"
            )


def _shadowed_routes(document: Document, routes: list[Any]) -> Iterator[Problem]:
    matches = [_readable(Match, route.get("match")) if isinstance(route, dict) else None for route in routes]
    for index, match in enumerate(matches):
        for before, earlier in enumerate(matches[:index]):
            if match and earlier and takes_all(earlier, match):
                name = document.get("routes", before, "name")
                which = f"routes[{before}] ({name})" if isinstance(name, str) else f"routes[{before}]"
                message = f"can never match: {which} takes all that it would; move it up or take it out"
                yield document.problem(("routes", index), message)
                break
