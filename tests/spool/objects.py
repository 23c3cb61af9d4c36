"""Objects for the tests of the spool: entries, bodies, and what a spool's books say."""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import Location
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, new_generation
from proxy.spool.filling import Filling
from proxy.spool.spool import Spool

KIB = 1 << 10
MIB = 1 << 20


def key_of(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that tell where they are: no two places look alike."""
    block = b"".join(blake2b(b"%d %d" % (seed, at)).digest() for at in range(min(length // 64 + 1, 4096)))
    return (block * (length // len(block) + 1))[:length]


def entry(
    name: str = "/film",
    length: int | None = None,
    *,
    vary: tuple[tuple[str, str | None], ...] = (),
    partition: bytes | None = None,
    time: int = 1_000_000,
    generation: str | None = None,
    tags: tuple[str, ...] = (),
    epoch: int = 0,
) -> Entry:
    generation = new_generation() if generation is None else generation
    fields = CIMultiDictProxy(
        CIMultiDict({"Content-Type": "video/mp4", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"})
    )
    return Entry(
        key=key_of(name if partition is None else f"{name} {partition.hex()}"),
        target=key_of(name),
        generation=generation,
        label=name,
        partition=partition,
        stored=Stored(
            representation=Representation(
                status=200,
                fields=fields,
                validators=origin_validators(fields, own_tag(generation)),
                complete_length=length,
            ),
            request_time=time,
            response_time=time,
            vary=vary,
            scope=Scope.SHARED if partition is None else Scope.PARTITION,
        ),
        location=Location("host", name),
        tags=tags,
        epoch=epoch,
    )


@asynccontextmanager
async def opened(
    root: Path, *, max_size: int = 10 * MIB, max_object_size: int = 5 * MIB, min_free: int = 0
) -> AsyncIterator[Spool]:
    spool = await Spool.open(root, max_size=max_size, max_object_size=max_object_size, min_free=min_free)
    try:
        yield spool
    finally:
        await spool.close()


async def begin(spool: Spool, new: Entry, data: bytes, *, length_known: bool = True) -> Filling:
    """A filling that has `data`."""
    filling = await spool.create(new, len(data) if length_known else None)
    try:
        if data:
            await filling.reserve(len(data))
            await filling.write(data, 0)
    except BaseException:
        await filling.discard()
        raise
    return filling


async def store(spool: Spool, new: Entry, data: bytes) -> Entry:
    filling = await begin(spool, new, data)
    complete = new.completed(len(data))
    try:
        await filling.commit(complete)
    finally:
        await filling.discard()
    return replace(complete, checksum=crc32(data))


async def content(spool: Spool, stored: Entry) -> bytes:
    body = await spool.open_body(stored)
    try:
        return bytes(await body.read(0, stored.length)) if stored.length else b""
    finally:
        body.release()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for threads to come to an end; the test's own time-out is the limit."""
    while not condition():  # noqa: ASYNC110  # a thread's end rings no bell
        await asyncio.sleep(0.001)


def files(root: Path) -> set[str]:
    """Bodies, heads and whatever else lies in the spool, without what is always there."""
    return {
        path.name
        for folder in (root / "filling", root / "objects")
        for path in folder.rglob("*")
        if path.is_file()
    }


def descriptors(root: Path) -> int:
    """How many open files this process has below `root`, those without a name included."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith((f"{root}/filling", f"{root}/objects"))
        except FileNotFoundError:
            pass  # the listing's own
    return count


@dataclass(frozen=True)
class Books:
    """All that must be as before when something has come to nothing."""

    used: int
    lingering: int
    reserved: int
    being_read: int
    files: frozenset[str]

    @classmethod
    def of(cls, spool: Spool) -> "Books":
        return cls(
            used=spool.room.used,
            lingering=spool.room.lingering,
            reserved=spool.room.reserved,
            being_read=spool.being_read,
            files=frozenset(files(spool.paths.root)),
        )


def remove_folder(folder: Path) -> None:
    """While its owner writes there: names come and go meanwhile."""
    while True:
        try:
            shutil.rmtree(folder)
            return
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
                raise
            if not folder.exists():
                return
