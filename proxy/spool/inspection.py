"""A spool folder looked at from outside: beside the service that owns it, or without one.

Nothing here takes the folder over or writes the index: what is there may come and go meanwhile.  All of it blocks.
"""

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import SpoolError
from proxy.spool.entry import Entry, load_head
from proxy.spool.folder import Paths

_OURS: Final = re.compile(r"([0-9a-f]{32})\.(head|body)")
_FOLDER: Final = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An object that is arriving, or was; `size` bytes of it are there.  Times are seconds since the epoch."""

    entry: Entry
    size: int
    begun: float
    written: float


class Inspection:
    """Of one folder.  Raises SpoolError, in words for a person, where that is no spool."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        try:
            names = set(os.listdir(root))
            if {"objects", "lock"} <= names:
                os.listdir(self.paths.objects)
                return
        except FileNotFoundError:
            raise SpoolError(f"there is no folder {root}") from None
        except OSError as error:
            advice = "; run this as the user of the service, or root" if error.errno == errno.EACCES else ""
            raise SpoolError(f"cannot read {root}: {error.strerror}{advice}") from None
        raise SpoolError(f"{root} is no spool of range-adapter: it has no `objects` and no `lock`")

    def __repr__(self) -> str:
        return f"<Inspection of {self.paths.root}>"

    def folders(self) -> list[str]:
        """The names of those that objects lie in: the first two digits of their generations."""
        return sorted(name for name in os.listdir(self.paths.objects) if _FOLDER.fullmatch(name))

    def objects(self, folder: str) -> dict[str, dict[str, int]]:
        """The sizes of the files of what lies in a folder, by generation and kind: `head`, `body`."""
        return {
            generation: files
            for generation, files in _files(self.paths.objects / folder).items()
            if generation.startswith(folder)
        }

    def entry(self, generation: str) -> Entry:
        """By its head.  Raises OSError, SpoolError."""
        entry = load_head(self.paths.head(generation).read_bytes())
        if entry.generation != generation:
            raise SpoolError("head of another object")
        return entry

    def unfinished(self) -> list[Unfinished]:
        """What is arriving, or was when its service ended."""
        found = []
        for generation, sizes in sorted(_files(self.paths.filling).items()):
            head, body = (self.paths.filling / f"{generation}.{kind}" for kind in ("head", "body"))
            with suppress(OSError, SpoolError):  # it has just become whole, or is over
                entry, begun = load_head(head.read_bytes()), head.stat().st_mtime
                written = body.stat().st_mtime if "body" in sizes else begun
                found.append(Unfinished(entry, sizes.get("body", 0), begun, written))
        return found


def _files(folder: Path) -> dict[str, dict[str, int]]:
    """The sizes of the files that are ours, by generation and kind."""
    found: dict[str, dict[str, int]] = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for each in entries:
            name = _OURS.fullmatch(each.name)
            if name is not None and each.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # gone meanwhile
                    found.setdefault(name[1], {})[name[2]] = each.stat(follow_symlinks=False).st_size
    return found
