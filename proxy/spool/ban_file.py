"""How the bans in force are written down: a line for each, below a line with the epoch they follow on.

A new one is added behind the others, in place: that takes no new name, which a failing disk may refuse, and one sync.
"""

import json
import os
import time
from typing import Any, Final, assert_never

import structlog

from proxy.errors import SpoolError
from proxy.semantics.purging import Ban, Everything, Purge, Tagged, Targets, Under
from proxy.spool import calls
from proxy.spool.bans import MAX_BANS, Bans
from proxy.spool.folder import Paths, sync_folder, write_file
from proxy.spool.seal import is_sealed, sealed

FORMAT: Final = 2
LINES: Final = 2 * MAX_BANS
"""In the file at most: those of bans that others have replaced stay until it is written anew."""

_log = structlog.stdlib.get_logger("spool")


class BanFile:
    """Of one folder.  All methods block, and raise SpoolError."""

    def __init__(self, paths: Paths) -> None:
        """Reads it.  A file that is missing or unreadable is made anew: without it, nobody knows what has been
        purged, and everything that is stored counts as purged.
        """
        self._paths = paths
        self._lines = 0
        self._size: int | None = None
        """Bytes that are durable; None where those of another file may be back once the power has failed."""
        self.found = self._read()

    def write(self, bans: Bans) -> None:
        """All of them, in the place of what was written, to hold even if the power fails."""
        lines = [sealed(json.dumps({"format": FORMAT, "epoch": bans.epoch})), *map(_line, bans.bans)]
        text = "".join(f"{line}\n" for line in lines)
        try:
            write_file(self._paths.bans, text, durable=True)
            self._size, self._lines = None, len(lines)
            sync_folder(self._paths.root)
        except OSError as error:
            raise self._error(error) from error
        self._size = len(text)

    def add(self, bans: Bans) -> None:
        """The newest of them, behind those that were written."""
        try:
            if self._size is None or self._lines >= LINES or not self._append(bans.bans[-1], self._size):
                self.write(bans)
        except OSError as error:
            raise self._error(error) from error

    def _append(self, ban: Ban, size: int) -> bool:
        """False if the file is not what was written.  Raises OSError; what it leaves then is overwritten."""
        line = f"{_line(ban)}\n".encode("ascii")
        try:
            fd = calls.open_file(self._paths.bans, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            there = calls.fstat(fd).st_size
            if there < size:
                return False
            if there > size:
                calls.ftruncate(fd, size)
            calls.write_all(fd, line, size)
            calls.fdatasync(fd)
        finally:
            calls.close(fd)
        self._size, self._lines = size + len(line), self._lines + 1
        return True

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
        # The power failed while the last one was written, before it was acknowledged.
        if len(lines) > 1 and b"\0" in lines[-1]:
            torn = lines.pop() + b"\n" + torn
        for line in lines:
            if not is_sealed(line):
                raise ValueError("it has rotted: a line has another checksum")
        head: dict[str, Any] = json.loads(lines[0]) if lines else {}
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}, not {FORMAT}")
        bans = tuple(_loaded(json.loads(line)) for line in lines[1:])
        self._lines, self._size = len(lines), len(text) - len(torn)
        return Bans(max([int(head["epoch"]), *(ban.epoch for ban in bans)]), bans)

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
