"""The spool's folder: what lies where, whose it is, and the files of an object on its way into it."""

import errno
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from proxy.errors import SpoolError, SpoolInUse
from proxy.spool import calls
from proxy.spool.entry import Entry, dump_head

SECRET_SIZE = 32
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = structlog.stdlib.get_logger("spool")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are in one spool folder."""

    root: Path

    @property
    def filling(self) -> Path:
        return self.root / "filling"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def index(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def secret(self) -> Path:
        return self.root / "secret"

    @property
    def bans(self) -> Path:
        """What is purged and not swept away yet: nothing else knows, so that it outlives the index."""
        return self.root / "bans"

    @property
    def scrub(self) -> Path:
        """How far the search for rot has come."""
        return self.root / "scrub"

    @property
    def orderly(self) -> Path:
        """There while nobody runs and the last one came to an orderly end."""
        return self.root / "orderly"

    def body(self, generation: str) -> Path:
        return self.objects / generation[:2] / f"{generation}.body"

    def head(self, generation: str) -> Path:
        return self.objects / generation[:2] / f"{generation}.head"

    def make(self) -> None:
        """Create the folders.  Bodies may be private: nobody else may read them."""
        for folder in (*reversed(self.root.parents), self.root, self.filling, self.objects):
            make_folder(folder)


def make_folder(path: Path) -> None:
    """Create a folder, unless it is there."""
    try:
        calls.mkdir(path)
    except FileExistsError:
        calls.stat(path / ".")  # it is a folder indeed
    except OSError:  # the root of a system that cannot be written is there all the same
        if not is_there(path / "."):
            raise


def is_there(path: Path) -> bool:
    """Is there a file or a folder of this name?"""
    try:
        calls.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def write_file(path: Path, text: str, *, durable: bool) -> None:
    """Replace `path` by `text`, whole or not at all; `durable`: also if the power fails, once the folder is synced.

    Else that may leave the old text, or none that can be read.
    """
    temporary = path.with_suffix(path.suffix + ".new")
    fd = calls.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        try:
            calls.write_all(fd, text.encode("ascii"), 0)
            if durable:
                calls.fsync(fd)
        finally:
            calls.close(fd)
        calls.rename(temporary, path)
    except BaseException:
        discard(temporary)
        raise


def discard(path: Path) -> bool:
    """Unlink a file, if it is there; False, and the log tells, if the disk refuses."""
    try:
        calls.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("cannot delete a file of the spool", path=str(path), why=error.strerror)
        return False
    return True


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: those that came, those that went, and those that mean another file now."""
    fd = calls.open_file(path, os.O_RDONLY)
    try:
        calls.fsync(fd)
    finally:
        calls.close(fd)


class FillingFiles:
    """The two files of an object that is still arriving.  All methods block, and raise OSError.

    The head is there, under its name, before the first byte of the body.  Where making them fails, what there is of
    them is for the caller to discard.
    """

    def __init__(self, paths: Paths, entry: Entry, *, found: bool = False) -> None:
        """New ones, or those of an earlier process that were `found`."""
        self._head = paths.filling / f"{entry.generation}.head"
        self._body = paths.filling / f"{entry.generation}.body"
        self._naming = threading.Lock()
        self._disowned = False
        self.entry = entry
        self.confirmed = True
        """Is all that is there as it was written, since this start of the machine?"""
        if found:
            self.fd = calls.open_file(self._body, os.O_RDWR)
            self.confirmed = self._is_as_noted()
            return
        self._write_head(replace(entry, boot=boot_id()))
        self.fd = calls.open_file(self._body, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    @property
    def size(self) -> int:
        """Bytes in the body's file."""
        return calls.fstat(self.fd).st_size

    def _is_as_noted(self) -> bool:
        """Who was killed has not noted when it wrote last: then all counts since the machine's start."""
        same_file = self.entry.mtime in {None, calls.fstat(self.fd).st_mtime_ns}
        return same_file and self.entry.boot != "" and self.entry.boot == boot_id()

    def describe(self, entry: Entry, *, confirmed: bool, unless: Callable[[], bool] = lambda: False) -> None:
        """Write down what is known by now, while nobody writes; nothing where that is so already.  Not durable: what
        the power's failure spoils is dropped.
        """
        mtime = calls.fstat(self.fd).st_mtime_ns
        self._write_head(replace(entry, mtime=mtime, boot=boot_id() if confirmed else ""), unless)

    def _write_head(self, entry: Entry, unless: Callable[[], bool] = lambda: False) -> None:
        with self._naming:
            if not (self._disowned or unless()):
                write_file(self._head, dump_head(entry), durable=False)

    def disown(self) -> None:
        """Whatever becomes of us, nobody shall go on with it: from now on it gets no head any more."""
        with self._naming:
            self._disowned = True
            with suppress(FileNotFoundError):
                calls.unlink(self._head)

    def seal(self, entry: Entry) -> Entry:
        """The body is whole: make it durable, and after it write the head that says so.

        No name that it will bear may outlive the power where the bytes do not.  The head need not be durable: what
        is left of it is whole or unreadable, and costs no more than the object.  Returns what it says.
        """
        calls.fdatasync(self.fd)
        sealed = replace(entry, mtime=calls.fstat(self.fd).st_mtime_ns, boot="")
        self._write_head(sealed)
        return sealed

    def move(self, head: Path, body: Path) -> bool:
        """Give both their place among the objects; the head last, for a body without a head is nothing.

        No folder is synced: an object that the power's failure takes back is fetched again.  False, and nothing is
        done, if it has been disowned.
        """
        make_folder(body.parent)
        with self._naming:
            if self._disowned:
                return False
            calls.rename(self._body, body)
            calls.rename(self._head, head)
            return True


def discard_filling(paths: Paths, generation: str) -> None:
    """Unlink all that there may be of an object that was arriving; who has it open keeps it.  Raises OSError."""
    for suffix in (".body", ".head", ".head.new"):
        with suppress(FileNotFoundError):
            calls.unlink(paths.filling / f"{generation}{suffix}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder that is ours alone until `release`.

    `secret` is of this folder: what keys of credentials are derived with, so that none can be guessed from the
    disk.  `orderly`: did the last owner leave everything in its place?
    """

    paths: Paths
    secret: bytes
    orderly: bool
    lock: int
    unfinished: tuple[FillingFiles, ...] = ()

    def holds(self) -> bool:
        """Is what lies under its name still the folder that was taken?  Blocks.  Raises OSError."""
        ours = calls.fstat(self.lock)
        try:
            there = calls.stat(self.paths.lock)
        except (FileNotFoundError, NotADirectoryError):
            return False
        folders = (self.paths.filling, self.paths.objects)
        return os.path.samestat(ours, there) and all(is_there(folder) for folder in folders)

    def release(self, *, orderly: bool) -> None:
        """Raises nothing: without the mark of an orderly end, the next start looks through everything."""
        if orderly:
            with suppress(OSError):
                calls.close(calls.open_file(self.paths.orderly, os.O_WRONLY | os.O_CREAT))
        calls.close(self.lock)


def claim(root: Path) -> Claim:
    """Take the folder, made if missing.  Blocks.  Raises SpoolError, in words for the person who started us."""
    return _take(Paths(root), None)


def take_again(lost: Claim) -> Claim:
    """The folder under the same name, which was removed or replaced: it gets the secret of the one that is `lost`.

    Blocks.  Raises SpoolError; then the lost one is still to be released.
    """
    owned = _take(lost.paths, lost.secret)
    calls.close(lost.lock)
    return owned


def _take(paths: Paths, secret: bytes | None) -> Claim:
    try:
        paths.make()
        lock = calls.open_file(paths.lock, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SpoolError(f"cannot write to the spool folder {paths.root}: {error.strerror}") from error
    try:
        calls.flock(lock)
        for name in calls.listdir(paths.root):
            if name.endswith(".new"):  # never came to its name
                discard(paths.root / name)
        orderly = is_there(paths.orderly)
        if orderly:
            calls.unlink(paths.orderly)
        stored = _stored_secret(paths)
        if stored is None or secret not in {None, stored}:
            stored = secret or secrets.token_bytes(SECRET_SIZE)
            write_file(paths.secret, stored.hex(), durable=True)
        # What is orderly now may not look so after the power fails, and partitions are found by the secret only.
        sync_folder(paths.root)
        return Claim(paths, stored, orderly, lock)
    except OSError as error:
        calls.close(lock)
        if error.errno == errno.EWOULDBLOCK:
            raise SpoolInUse(f"the spool folder {paths.root} is in use by another range-adapter") from error
        raise SpoolError(f"cannot take over the spool folder {paths.root}: {error.strerror}") from error


def _stored_secret(paths: Paths) -> bytes | None:
    """The folder's secret; without it, what credentials had stored cannot be reached any more."""
    try:
        secret = bytes.fromhex(calls.read_file(paths.secret).decode("ascii"))
    except (FileNotFoundError, ValueError):
        return None  # the first start, or not ours
    return secret if len(secret) == SECRET_SIZE else None


def boot_id() -> str:
    """Another after each start of the machine; "" where nobody can tell."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
