"""The start: the folder becomes ours, with what lies in it, finished and unfinished.  Blocks."""

from dataclasses import replace
from pathlib import Path

import structlog

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.entry import load_head
from proxy.spool.folder import Claim, FillingFiles, Paths, claim, discard
from proxy.spool.shelf import Shelf

ENOUGH = 1 << 20
"""Bytes of a disk that a start needs at most."""

_log = structlog.stdlib.get_logger("spool")


def take_over(root: Path) -> tuple[Claim, Shelf]:
    """The folder and what lies in it.  Raises SpoolError, in words for the person who started us."""
    owned = claim(root)
    try:
        shelf, is_whole = _open_shelf(owned)
        unfinished = _find_unfinished(owned.paths, shelf.bans.epoch)
        orderly = (is_whole and not shelf.fresh) or shelf.is_empty()
        return replace(owned, orderly=orderly, unfinished=unfinished), shelf
    except OSError as error:
        owned.release(orderly=False)
        raise SpoolError(f"cannot take over the spool folder {root}: {error.strerror}") from error
    except BaseException:
        owned.release(orderly=False)
        raise


def _open_shelf(owned: Claim) -> tuple[Shelf, bool]:
    """What is stored, and whether the last owner left it in order."""
    try:
        return Shelf(owned.paths), owned.orderly
    except SpoolError:
        # A service that lost some objects is better than one that does not start.
        if not _shed(owned.paths):
            raise
    root = owned.paths.root
    _log.error("the disk is full: some objects had to go for the start", spool=str(root))
    try:
        return Shelf(owned.paths), False
    except SpoolError as error:
        raise SpoolError(f"the disk of the spool folder {root} is full: {error}") from error


def _find_unfinished(paths: Paths, epoch: int) -> tuple[FillingFiles, ...]:
    """What an earlier process had begun to store since the last purge, the oldest first; all else there is deleted.

    Blocks.  Raises OSError.
    """
    lying = [paths.filling / name for name in calls.listdir(paths.filling)]
    names = [each.name for each in lying if each.is_symlink() or not each.is_dir()]
    found = [
        files for name in names if name.endswith(".body") and (files := _unfinished(paths, name[:-5], epoch))
    ]
    kept = {f"{files.entry.generation}{suffix}" for files in found for suffix in (".head", ".body")}
    for name in names:  # a folder is not ours
        if name not in kept:
            discard(paths.filling / name)
    return tuple(sorted(found, key=lambda files: calls.fstat(files.fd).st_mtime_ns))


def _unfinished(paths: Paths, generation: str, epoch: int) -> FillingFiles | None:
    """Of a purge nobody knows any more, after a while, what it was about: it counts as about all from before it.

    And a credential begins anew after each start.
    """
    try:
        entry = load_head(calls.read_file(paths.filling / f"{generation}.head"))
        if entry.generation != generation or entry.epoch < epoch or entry.partition is not None:
            return None
        files = FillingFiles(paths, entry, found=True)
    except (OSError, SpoolError):
        return None
    length = entry.stored.representation.complete_length
    if 0 < files.size <= (files.size if length is None else length):
        return files
    calls.close(files.fd)
    return None


def _shed(paths: Paths) -> bool:
    """Give a full disk some room back, at the cost of any objects; False if it is not full, or nothing is left to go.

    Blocks.  Raises OSError.
    """
    disk = calls.statvfs(paths.root)
    missing = ENOUGH - disk.f_bavail * disk.f_frsize
    if missing <= 0:
        return False
    shed = 0
    for folder in sorted(calls.listdir(paths.objects)):
        for name in sorted(calls.listdir(paths.objects / folder)):  # a body before its head
            path = paths.objects / folder / name
            shed += calls.stat(path).st_size
            calls.unlink(path)
            if shed >= missing and name.endswith(".head"):
                return True
    return shed > 0
