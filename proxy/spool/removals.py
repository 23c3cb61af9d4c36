"""Files on their way out.  Some the disk does not let go at once; others could be back once the power has failed,
until the folder that lost the name is synced.
"""

import errno
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from proxy.spool.folder import discard, sync_folder

MOST = 256
"""Names lost by one folder before it is synced for that alone."""


class Removals:
    """Names that folders have lost, or that mean another file now, and the targets that those were about.

    Where an object was evicted or replaced, its return would do no harm, so that nothing is synced then.  It would
    once somebody has been promised that what is stored of its target is gone: that is when `settle` is called.
    """

    def __init__(self) -> None:
        self.left: set[Path] = set()
        """What could not be deleted."""
        self._targets: defaultdict[Path, set[bytes | None]] = defaultdict(set)

    def unlink(self, path: Path, target: bytes | None) -> bool:
        """False if the disk does not let it go; then it is tried again.  None: of which target is not known."""
        if not discard(path):
            self.left.add(path)
            return False
        self.left.discard(path)
        with suppress(OSError):  # it is noted all the same
            self.note(path.parent, target)
        return True

    def note(self, folder: Path, target: bytes | None) -> None:
        """A name in the folder means another file now.  Raises OSError."""
        self._targets[folder].add(target)
        if len(self._targets[folder]) > MOST:
            self._sync(folder)

    def retry(self) -> None:
        """Delete what could not be deleted.  Raises OSError where it still cannot."""
        for path in list(self.left):
            self.unlink(path, None)
        if self.left:
            raise OSError(errno.EIO, f"cannot delete {min(self.left)}")

    def settle(self, target: bytes | None = None) -> None:
        """Make all of it durable, or what is about one target.  Raises OSError."""
        self.retry()
        for folder, targets in list(self._targets.items()):
            if target is None or not targets.isdisjoint({target, None}):
                self._sync(folder)

    def _sync(self, folder: Path) -> None:
        with suppress(FileNotFoundError):  # it has gone with all that was in it
            sync_folder(folder)
        del self._targets[folder]
