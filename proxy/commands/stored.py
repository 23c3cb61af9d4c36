"""What `spool ls` and `spool stat` know of a folder, as plain values: JSON prints them as they are."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from proxy.config import Config
from proxy.errors import AdapterError
from proxy.routes import RouteTable
from proxy.semantics.freshness import current_age, lifetime
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest
from proxy.spool.entry import Entry
from proxy.spool.index_view import IndexView, Row
from proxy.spool.inspection import Inspection

PolicyOf = Callable[[Entry], CachePolicy | None]
"""The policy of the route that an object is served by; None where no route takes it any more."""


def objects(folder: Path, settings: Config | None) -> Iterator[dict[str, Any]]:
    """All that is stored, the last used first.  Raises SpoolError, OSError."""
    view, policy_of, now = IndexView(Inspection(folder).paths.index), _policies(settings), int(time.time())
    try:
        for row in view.rows():
            yield _object(row, policy_of, now)
    finally:
        view.close()


def _object(row: Row, policy_of: PolicyOf, now: int) -> dict[str, Any]:
    entry = row.entry
    if entry is None:
        return {"object": "(unreadable)", "generation": row.generation, "size_bytes": row.size}
    stored, representation = entry.stored, entry.stored.representation
    age, left = max(0, now - stored.response_time), None
    if (policy := policy_of(entry)) is not None:
        granted = lifetime(representation.status, representation.fields, policy, stored.response_time)
        age = current_age(stored, now, granted.basis)
        left = granted.seconds - age
        if stored.stale_since is not None:
            left = min(left, stored.stale_since - now)
    return {
        "object": entry.label,
        "generation": entry.generation,
        "status": representation.status,
        "size_bytes": row.size,
        "age_seconds": age,
        "fresh": None if left is None else left > 0,
        "fresh_seconds_left": left,
        "last_used": _stamp(row.used),
        "partition": entry.partition is not None,
        "tags": list(entry.tags),
        "crc32": entry.checksum,
    }


def unfinished(folder: Path) -> Iterator[dict[str, Any]]:
    """What is arriving, or was when its service ended, the last written first.  Raises SpoolError, OSError."""
    for each in sorted(Inspection(folder).unfinished(), key=lambda one: -one.written):
        yield {
            "object": each.entry.label,
            "generation": each.entry.generation,
            "size_bytes": each.size,
            "complete_length": each.entry.stored.representation.complete_length,
            "begun": _stamp(each.begun),
            "last_written": _stamp(each.written),
            "partition": each.entry.partition is not None,
        }


def totals(folder: Path, settings: Config | None) -> dict[str, Any]:
    """How much there is.  Raises SpoolError, OSError."""
    inspection = Inspection(folder)
    view = IndexView(inspection.paths.index)
    try:
        stored, used = view.totals(), view.used()
        unknown = sum(len(view.unknown(list(inspection.objects(name)))) for name in inspection.folders())
    finally:
        view.close()
    unfinished = inspection.unfinished()
    disk = os.statvfs(folder)
    return {
        "path": str(folder),
        "objects": stored.objects,
        "bytes": stored.size,
        "max_bytes": None if settings is None else int(settings.spool.max_size),
        "partitions": stored.partitions,
        "partition_bytes": stored.partition_size,
        "first_used": None if used is None else _stamp(used[0]),
        "last_used": None if used is None else _stamp(used[1]),
        "unfinished": len(unfinished),
        "unfinished_bytes": sum(each.size for each in unfinished),
        "unknown": unknown,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
    }


def _policies(settings: Config | None) -> PolicyOf:
    """By the routes of a config; without one the service has the defaults, as `serve --origin`."""
    if settings is None:
        policy = CachePolicy()
        return lambda _: policy
    routes = RouteTable(settings)

    def policy_of(entry: Entry) -> CachePolicy | None:
        location = entry.location
        path, question, query = location.path.partition("?")
        request = ClientRequest(
            method="GET",
            target=location.path,
            path=path,
            query=query if question else None,
            scheme="http",
            host=location.host or "",
            fields=CIMultiDict(),
            peer="127.0.0.1",
            client="127.0.0.1",
        )
        try:
            return routes.match(request).route.policy
        except AdapterError:
            return None

    return policy_of


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
