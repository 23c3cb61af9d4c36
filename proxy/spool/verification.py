"""All that is stored, read and held against its checksums, beside a running service or without one."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from proxy.errors import SpoolError
from proxy.spool.entry import Entry
from proxy.spool.inspection import Inspection
from proxy.spool.rereading import Rereading

STEP: Final = 4 << 20
"""Bytes read between two reports."""
SETTLING: Final = 1.0
"""Seconds in which a service has given an object both its files, or taken both."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one object; `entry` where its head can be read."""

    generation: str
    entry: Entry | None
    why: str


Report: TypeAlias = int | Flaw
"""Bytes that have been read since the one before, or what is wrong with an object."""


class Verification:
    """Counts the `objects` it has seen, and the bytes `read` of them."""

    def __init__(self, inspection: Inspection, sleep: Callable[[float], None] = time.sleep) -> None:
        self.objects = 0
        self.read = 0
        self._inspection = inspection
        self._sleep = sleep

    def size(self) -> int:
        """Bytes of all bodies, as far as one can tell beforehand."""
        folders = map(self._inspection.objects, self._inspection.folders())
        return sum(files.get("body", 0) for folder in folders for files in folder.values())

    def reports(self) -> Iterator[Report]:
        """Read everything.  Raises OSError where that says nothing about an object: too many open files."""
        halves: list[str] = []
        for folder in self._inspection.folders():
            for generation, files in sorted(self._inspection.objects(folder).items()):
                if len(files) < 2:
                    halves.append(generation)
                else:
                    self.objects += 1
                    yield from self._examined(generation)
        if halves:
            self._sleep(SETTLING)
            for generation in halves:
                self.objects += 1
                yield from self._examined(generation)

    def _examined(self, generation: str) -> Iterator[Report]:
        """Bytes as they are read, and at last the flaw, if it has one.  What is gone has none."""
        paths, entry = self._inspection.paths, None
        try:
            entry = self._inspection.entry(generation)
            rereading = Rereading(paths.body(generation), entry)
        except FileNotFoundError:
            if entry is None and paths.body(generation).exists():
                yield Flaw(generation, None, "it has no head")
            elif paths.head(generation).exists():
                yield Flaw(generation, entry, "its body is gone")
            return
        except SpoolError as error:
            yield Flaw(generation, None, f"its head cannot be read: {error}")
            return
        try:
            more = True
            while more:
                before = rereading.read
                more = rereading.step(STEP)
                self.read += rereading.read - before
                yield rereading.read - before
            if rereading.flaw is not None:
                yield Flaw(generation, entry, rereading.flaw)
        finally:
            rereading.close()

    def path(self, flaw: Flaw) -> Path:
        """Where the object's body is, or should be."""
        return self._inspection.paths.body(flaw.generation)

    def remove(self, flaw: Flaw) -> None:
        """Unlink the object's files: it is fetched anew.  Raises OSError.

        Emptied first, its body has nothing left for those, either, who have it open in a running service.
        """
        body = self.path(flaw)
        with suppress(FileNotFoundError):
            fd = os.open(body, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.ftruncate(fd, 0)
            finally:
                os.close(fd)
            body.unlink()
        self._inspection.paths.head(flaw.generation).unlink(missing_ok=True)
