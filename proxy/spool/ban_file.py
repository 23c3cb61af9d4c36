"""How the bans in force are written down: a line for each, below a line with the epoch they follow on.

The file is written anew each time.  Where the disk refuses that, as one that takes no new names, the newest ban is
added behind the others, in place.
"""

import errno
import json
import os
import time
from contextlib import suppress
from typing import Any, Final, assert_never

import structlog

from proxy.errors import SpoolError
from proxy.semantics.purging import Ban, Everything, Purge, Tagged, Targets, Under
from proxy.spool import calls
from proxy.spool.bans import Bans
from proxy.spool.folder import Paths, sync_folder, write_file
from proxy.spool.seal import is_sealed, sealed

FORMAT: Final = 2
LARGEST: Final = 1 << 20
"""Bytes up to which bans are added in place: those that others have replaced stay until the file is written anew."""

_log = structlog.stdlib.get_logger("spool")


class BanFile:
    """Of one folder.  All methods block, and raise SpoolError."""

    def __init__(self, paths: Paths) -> None:
        """Reads it.  A file that is missing or unreadable is made anew: without it, nobody knows what has been
        purged, and everything that is stored counts as purged.
        """
        self._paths = paths
        self._size: int | None = None
        """Bytes of the file as it was written or read; None where another may be back once the power has failed."""
        self.found = self._read()
        if self.found.bans:
            # What was added in place may not be durable, if a kill came before its acknowledgement.
            with suppress(SpoolError):
                self.write(self.found)

    def write(self, bans: Bans) -> None:
        """All of them, in the place of what was written, to hold even if the power fails."""
        head = {"format": FORMAT, "epoch": bans.epoch, "bans": len(bans.bans)}
        text = "".join(f"{line}\n" for line in (sealed(json.dumps(head)), *map(_line, bans.bans)))
        try:
            write_file(self._paths.bans, text, durable=True)
            self._size = None
            sync_folder(self._paths.root)
        except OSError as error:
            raise self._error(error) from error
        self._size = len(text)

    def add(self, bans: Bans) -> None:
        """Those that were written, and the newest, in the same way; in place, if there is no other."""
        try:
            self.write(bans)
        except SpoolError:
            if self._size is None or self._size >= LARGEST:
                raise
            try:
                self._append(bans.bans[-1], self._size)
            except OSError as error:
                raise self._error(error) from error

    def _append(self, ban: Ban, size: int) -> None:
        """Raises OSError; what it leaves then is overwritten."""
        line = f"{_line(ban)}\n".encode("ascii")
        fd = calls.open_file(self._paths.bans, os.O_RDWR)
        try:
            if calls.fstat(fd).st_size < size:
                raise OSError(errno.EIO, "it was cut off")
            calls.ftruncate(fd, size)
            try:
                calls.write_all(fd, line, size)
                calls.fdatasync(fd)
            except OSError:
                with suppress(OSError):  # it was refused, and shall not come into force later
                    calls.ftruncate(fd, size)
                raise
        finally:
            calls.close(fd)
        self._size = size + len(line)

    def _read(self) -> Bans:
        try:
            return self._load(calls.read_file(self._paths.bans))
        except FileNotFoundError as error:
            new, why = not calls.listdir(self._paths.objects), str(error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            new, why = False, str(error)
        bans = Bans()
        if not new:
            _log.error("lost the purges; what is stored is fetched anew", bans=str(self._paths.bans), why=why)
            # Later than any count of purges: no epoch that was lost reaches it.
            bans = Bans(time.time_ns() // 1000).with_ban(Everything(), soft=False, since=0)
        self.write(bans)
        return bans

    def _load(self, text: bytes) -> Bans:
        *lines, torn = text.split(b"\n")
        head: Any = json.loads(lines[0]) if lines else None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise ValueError(f"its first line does not tell the format {FORMAT}")
        written = int(head["bans"])
        # The power failed while a ban was added, before it was acknowledged.  JSON has no such byte.
        if len(lines) - 1 > written and b"\0" in lines[-1]:
            torn = lines.pop() + b"\n" + torn
        if len(lines) - 1 < written:
            raise ValueError("it was cut off")
        if not all(map(is_sealed, lines)):
            raise ValueError("it has rotted: a line has another checksum")
        # Of those that repeat each other, the last stands for all.
        bans = {(ban.what, ban.soft): ban for ban in (_loaded(json.loads(line)) for line in lines[1:])}
        self._size = len(text) - len(torn)
        epochs = (int(head["epoch"]), *(ban.epoch for ban in bans.values()))
        return Bans(max(epochs), tuple(sorted(bans.values(), key=lambda ban: ban.epoch)))

    def _error(self, error: OSError) -> SpoolError:
        return SpoolError(f"cannot write down a purge in {self._paths.bans}: {error.strerror}")


def _line(ban: Ban) -> str:
    members = {"epoch": ban.epoch, "soft": ban.soft, "since": ban.since, "what": _dump(ban.what)}
    return sealed(json.dumps(members))


def _loaded(members: dict[str, Any]) -> Ban:
    epoch, since = int(members["epoch"]), int(members["since"])
    return Ban(epoch, _load_purge(*members["what"]), bool(members["soft"]), since)


def _dump(what: Purge) -> list[str | None]:
    match what:
        case Everything():
            return ["everything"]
        case Under(host, prefix):
            return ["under", host, prefix]
        case Tagged(tag):
            return ["tagged", tag]
        case Targets(digests):
            return ["targets", *(digest.hex() for digest in digests)]
        case _:
            assert_never(what)


def _load_purge(kind: str, *what: Any) -> Purge:
    match kind, what:
        case "everything", ():
            return Everything()
        case "under", (str() | None as host, str() as prefix):
            return Under(host, prefix)
        case "tagged", (str() as tag,):
            return Tagged(tag)
        case "targets", digests:
            return Targets(frozenset(map(bytes.fromhex, digests)))
        case _:
            raise ValueError(f"no purge: {kind}")
