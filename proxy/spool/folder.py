"""The spool's folder: what lies where, whose it is, and the files of an object on its way into it."""

import errno
import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import SpoolError
from proxy.spool.entry import Entry, dump_head, load_head

SECRET_SIZE = 32


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
        for folder in (self.root, self.filling, self.objects):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_file(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by `text`, whole or not at all; `durable`: also if the power fails."""
    temporary = path.with_suffix(path.suffix + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a file that has just been replaced could be the old one otherwise."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FillingFiles:
    """The two files of an object that is still arriving.  All methods block, and raise OSError.

    The head is there, under its name, before the first byte of the body.
    """

    def __init__(self, paths: Paths, entry: Entry, *, found: bool = False) -> None:
        """New ones, or those of an earlier process that were `found`."""
        self._head = paths.filling / f"{entry.generation}.head"
        self._body = paths.filling / f"{entry.generation}.body"
        self.entry = entry
        if found:
            self.fd = os.open(self._body, os.O_RDWR | os.O_CLOEXEC)
            return
        self.describe(entry)
        try:
            self.fd = os.open(self._body, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except BaseException:
            self._head.unlink()
            raise

    @property
    def size(self) -> int:
        """Bytes in the body's file."""
        return os.fstat(self.fd).st_size

    def describe(self, entry: Entry) -> None:
        """Write down what is known by now.  Not durable: what the power's failure spoils is dropped."""
        write_file(self._head, dump_head(entry), durable=False)

    def disown(self) -> None:
        """Whatever becomes of us, nobody shall go on with it."""
        self._head.unlink(missing_ok=True)

    def seal(self, entry: Entry) -> None:
        """The body is whole: make it durable, and after it the head that says so."""
        os.fdatasync(self.fd)
        write_file(self._head, dump_head(entry))

    def move(self, head: Path, body: Path) -> None:
        """Give both their place among the objects; the head last, for a body without a head is nothing."""
        body.parent.mkdir(mode=0o700, exist_ok=True)
        self._body.rename(body)
        self._head.rename(head)

    def discard(self) -> None:
        """Unlink both; the descriptor stays good for those who still read."""
        self._head.unlink(missing_ok=True)
        self._body.unlink(missing_ok=True)


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
    same_boot: bool = True

    def release(self, *, orderly: bool) -> None:
        if orderly:
            self.paths.orderly.touch(mode=0o600)
        os.close(self.lock)


def claim(root: Path) -> Claim:
    """Take the folder, made if missing, and clear it of what never became whole.  Blocks.

    Raises SpoolError, in words for the person who started us.
    """
    paths = Paths(root)
    try:
        paths.make()
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(f"cannot write to the spool folder {root}: {error.strerror}") from error
    try:
        fcntl.flock(
            lock, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # not lockf: that is lost with any descriptor of the file
        for leftover in root.glob("*.new"):  # it was being replaced when its process died
            leftover.unlink()
        orderly = paths.orderly.exists()
        paths.orderly.unlink(missing_ok=True)
        return Claim(paths, _secret(paths), orderly, lock)
    except OSError as error:
        os.close(lock)
        if error.errno == errno.EWOULDBLOCK:
            raise SpoolError(f"the spool folder {root} is in use by another range-adapter") from error
        raise SpoolError(f"cannot take over the spool folder {root}: {error.strerror}") from error


def find_unfinished(paths: Paths, epoch: int) -> tuple[FillingFiles, ...]:
    """What an earlier process had begun to store since the last purge, the oldest first; all else there is deleted.

    Blocks.  Raises OSError.
    """
    found: list[FillingFiles] = []
    for leftover in sorted(paths.filling.iterdir(), key=lambda path: path.lstat().st_mtime_ns):
        if not leftover.is_symlink() and leftover.is_dir():
            continue  # a folder is not ours
        if leftover.suffix == ".body" and (files := _unfinished(paths, leftover, epoch)):
            found.append(files)
    kept = {f"{files.entry.generation}{suffix}" for files in found for suffix in (".head", ".body")}
    for leftover in paths.filling.iterdir():
        if leftover.name not in kept and (leftover.is_symlink() or not leftover.is_dir()):
            leftover.unlink()
    return tuple(found)


def _unfinished(paths: Paths, body: Path, epoch: int) -> FillingFiles | None:
    """Of a purge nobody knows any more, after a while, what it was about: it counts as about all from before it."""
    try:
        entry = load_head(body.with_suffix(".head").read_bytes())
        if entry.generation != body.stem or entry.epoch < epoch:
            return None
        files = FillingFiles(paths, entry, found=True)
    except (OSError, SpoolError):
        return None
    length = entry.stored.representation.complete_length
    if 0 < files.size <= (files.size if length is None else length):
        return files
    os.close(files.fd)
    return None


def _secret(paths: Paths) -> bytes:
    """The folder's secret; a new one where it is lost, which makes what credentials had stored unreachable."""
    try:
        secret = bytes.fromhex(paths.secret.read_text("ascii"))
        if len(secret) == SECRET_SIZE:
            return secret
    except (FileNotFoundError, ValueError):
        pass  # the first start, or not ours
    secret = secrets.token_bytes(SECRET_SIZE)
    write_file(paths.secret, secret.hex())
    return secret
