"""A disk that fails on demand, and one whose power fails: under the spool's own calls, and under SQLite's."""

import errno
import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxy.spool import calls

WRITING = ("pwrite", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir", "create")
READING = ("open_file", "pread", "preadv", "listdir", "stat", "statvfs", "fstat", "read_file")


class Killed(BaseException):
    """Here the process ended: nothing that it does after that reaches the disk."""


# What is written down of each operation.  A file is known by a number of its own, whatever its names are.


@dataclass(frozen=True)
class Named:
    """A name in a folder has come, gone (None), or means another file now."""

    folder: str
    name: str
    file: int | None


@dataclass(frozen=True)
class Wrote:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    file: int
    size: int


@dataclass(frozen=True)
class Synced:
    """A file, or a folder, by its path."""

    what: int | str


Operation = Named | Wrote | Cut | Synced


@dataclass
class Faults:
    """The disk below `root`.

    `fail` is asked before each operation, by its name and path, and may raise; `log` has all that changed something.
    """

    root: Path
    fail: Callable[[str, str], None] = lambda _, __: None
    log: list[Operation] = field(default_factory=list)
    count: int = 0
    dead: bool = False
    _files: dict[str, int] = field(default_factory=dict)
    _open: dict[int, int] = field(default_factory=dict)
    made: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def happens(self, name: str, path: object = "") -> None:
        with self._lock:
            if self.dead:
                raise Killed
            self.count += 1
            self.fail(name, str(path))

    def kill_at(self, number: int) -> None:
        """The process ends before the operation of that number."""

        def fail(_: str, __: str) -> None:
            if self.count >= number:
                self.dead = True
                raise Killed

        self.count, self.fail = 0, fail

    def refuse(self, number: int, *what: int, calls: int = 1, only: tuple[str, ...] = ()) -> None:
        """So many operations fail from the one of that number on."""
        left = calls

        def fail(name: str, path: str) -> None:
            nonlocal left
            if self.count >= number and left > 0 and (not only or name in only):
                left -= 1
                number_of = what[left % len(what)]
                raise OSError(number_of, os.strerror(number_of), path)

        self.count, self.fail = 0, fail

    def heal(self) -> None:
        with self._lock:  # or a call that has just begun fails after this
            self.fail = lambda _, __: None

    # The log

    def file(self, path: str, *, make: bool = False) -> int:
        with self._lock:
            if path not in self._files or make:
                self.made += 1
                self._files[path] = self.made
                self.log.append(Named(os.path.dirname(path), os.path.basename(path), self.made))
            return self._files[path]

    def wrote(self, file: int, offset: int, data: bytes) -> None:
        self.log.append(Wrote(file, offset, bytes(data)))

    def renamed(self, old: str, new: str) -> None:
        with self._lock:
            file = self._files.pop(old)
            self._files[new] = file
            self.log.append(Named(os.path.dirname(new), os.path.basename(new), file))
            self.log.append(Named(os.path.dirname(old), os.path.basename(old), None))

    def unlinked(self, path: str) -> None:
        with self._lock:
            self._files.pop(path, None)
            self.log.append(Named(os.path.dirname(path), os.path.basename(path), None))

    # The calls

    def wrap(self) -> dict[str, Callable[..., Any]]:
        real = {name: getattr(calls, name) for name in (*WRITING[:-1], *READING)}

        def open_file(path: Path, flags: int) -> int:
            new = bool(flags & os.O_CREAT) and not os.path.exists(path)
            self.happens("create" if new else "open_file", path)
            fd: int = real["open_file"](path, flags)
            if new:
                self.file(str(path), make=True)
            elif flags & os.O_TRUNC:
                self.log.append(Cut(self.file(str(path)), 0))
            self._open[fd] = -1 if os.path.isdir(path) else self.file(str(path))
            return fd

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            self.happens("pwrite", _path(fd))
            with self._lock:
                self.wrote(self._open[fd], offset, data)
                return int(real["pwrite"](fd, data, offset))

        def ftruncate(fd: int, size: int) -> None:
            self.happens("ftruncate", _path(fd))
            with self._lock:
                self.log.append(Cut(self._open[fd], size))
                real["ftruncate"](fd, size)

        def sync(name: str) -> Callable[[int], None]:
            def synced(fd: int) -> None:
                self.happens(name, _path(fd))
                with self._lock:
                    file = self._open[fd]
                    self.log.append(Synced(_path(fd) if file < 0 else file))

            return synced

        def reading(name: str) -> Callable[..., Any]:
            def read(*args: Any) -> Any:
                self.happens(name, args[0])
                return real[name](*args)

            return read

        own: dict[str, Callable[..., Any]] = {
            "open_file": open_file,
            "pwrite": pwrite,
            "ftruncate": ftruncate,
            "fsync": sync("fsync"),
            "fdatasync": sync("fdatasync"),
        }
        own |= self._naming(real)
        return own | {name: reading(name) for name in READING if name not in own}

    def _naming(self, real: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
        def rename(old: Path, new: Path) -> None:
            self.happens("rename", new)
            with self._lock:
                real["rename"](old, new)
                self.renamed(str(old), str(new))

        def unlink(path: Path) -> None:
            self.happens("unlink", path)
            with self._lock:
                real["unlink"](path)
                self.unlinked(str(path))

        def mkdir(path: Path) -> None:
            self.happens("mkdir", path)
            with self._lock:
                real["mkdir"](path)
                self.log.append(Named(os.path.dirname(path), os.path.basename(path), -1))

        return {"rename": rename, "unlink": unlink, "mkdir": mkdir}


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


_MAPPED = {
    errno.ENOSPC: apsw.FullError,
    errno.EDQUOT: apsw.FullError,
    errno.EROFS: apsw.ReadOnlyError,
    errno.EMFILE: apsw.CantOpenError,
}


class _File(apsw.VFSFile):
    def __init__(self, faults: Faults, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        self._faults = faults
        self._path = str(name.filename() if isinstance(name, apsw.URIFilename) else name)
        super().__init__("unix", name, flags)
        before = faults.made
        self._file = faults.file(self._path)
        self._new = faults.made > before

    def _happens(self, name: str) -> None:
        try:
            self._faults.happens(name, self._path)
        except Killed:
            raise apsw.IOError("killed") from None
        except OSError as error:
            raise _MAPPED.get(error.errno or 0, apsw.IOError)(str(error)) from error

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._happens("pwrite")
        self._faults.wrote(self._file, offset, data)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._happens("fsync")
        self._faults.log.append(Synced(self._file))
        if self._new:  # as SQLite does after it has made a log
            self._faults.log.append(Synced(os.path.dirname(self._path)))
            self._new = False

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._happens("pwrite")
        self._faults.log.append(Cut(self._file, size))
        super().xTruncate(size)


class _Vfs(apsw.VFS):
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        super().__init__("faults", "unix", makedefault=True)

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> _File:  # noqa: N802
        if self._faults.dead:
            raise apsw.CantOpenError("killed")
        return _File(self._faults, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        try:
            self._faults.happens("unlink", name)
        except (OSError, Killed) as error:
            raise apsw.IOError(str(error)) from None
        super().xDelete(name, False)
        self._faults.unlinked(name)
        if sync:
            self._faults.log.append(Synced(os.path.dirname(name)))


@contextmanager
def faulty(root: Path) -> Iterator[Faults]:
    """All that is done below `root` goes through these faults."""
    faults = Faults(root)
    vfs = _Vfs(faults)
    with pytest.MonkeyPatch.context() as patch:
        for name, call in faults.wrap().items():
            patch.setattr(calls, name, call)
        try:
            yield faults
        finally:
            vfs.unregister()


# The power


class Disk:
    """What the disk has by some operation, and what it may have once the power has failed then."""

    def __init__(self) -> None:
        self._names: defaultdict[str, dict[str, list[int | None]]] = defaultdict(dict)
        """By folder and name: what it means for sure, and what it may mean besides."""
        self._safe: defaultdict[int, bytes] = defaultdict(bytes)
        self._now: defaultdict[int, bytearray] = defaultdict(bytearray)

    def take(self, operation: Operation) -> None:
        match operation:
            case Named(folder, name, file):
                self._names[folder].setdefault(name, [None]).append(file)
            case Wrote(file, offset, data):
                now = self._now[file]
                now.extend(bytes(max(0, offset + len(data) - len(now))))
                now[offset : offset + len(data)] = data
            case Cut(file, size):
                now = self._now[file]
                now[size:] = bytes(max(0, size - len(now)))
            case Synced(str(folder)):
                for meanings in self._names[folder].values():
                    del meanings[:-1]
            case Synced(int(file)):
                self._safe[file] = bytes(self._now[file])

    def rebuild(self, root: Path, onto: Path, chance: random.Random, how: str) -> None:
        """The folder as it may be found: `least` has only what was synced, `latest` everything, `any` any of it."""
        self._rebuild(str(root), onto, chance, how)

    def _rebuild(self, folder: str, onto: Path, chance: random.Random, how: str) -> None:
        onto.mkdir(parents=True, exist_ok=True)
        for name, meanings in self._names[folder].items():
            meaning = {"least": meanings[0], "latest": meanings[-1]}.get(how, chance.choice(meanings))
            if meaning == -1:
                self._rebuild(f"{folder}/{name}", onto / name, chance, how)
            elif meaning is not None:
                (onto / name).write_bytes(self._content(meaning, chance, how))

    def _content(self, file: int, chance: random.Random, how: str) -> bytes:
        safe, now = self._safe[file], bytes(self._now[file])
        if how != "any" or safe == now:
            return safe if how == "least" else now
        match chance.randrange(4):
            case 0:
                return safe
            case 1:
                return now
            case 2:  # it has its length, but not its bytes
                return safe + bytes(max(0, len(now) - len(safe))) if len(safe) <= len(now) else now
            case _:  # some blocks have come, others not
                pieces = []
                for start in range(0, len(now), 512):
                    old = safe[start : start + 512].ljust(len(now[start : start + 512]), b"\0")
                    pieces.append(
                        chance.choice([old[: len(now[start : start + 512])], now[start : start + 512]])
                    )
                return b"".join(pieces)
