"""What was unlinked could be back after the power has failed, until the folder that lost the name is synced."""

from collections import defaultdict
from pathlib import Path

from proxy.spool.folder import sync_folder

MOST = 256
"""Names lost by one folder before it is synced for that alone."""


class Removals:
    """Names that folders have lost, or that mean another file now, and the targets that those were about.

    Where an object was evicted or replaced, its return would do no harm, so that nothing is synced then.  It would
    once somebody has been promised that what is stored of its target is gone: that is when `settle` is called.
    """

    def __init__(self) -> None:
        self._targets: defaultdict[Path, set[bytes | None]] = defaultdict(set)

    def note(self, folder: Path, target: bytes | None) -> None:
        """None: of which target is not known.  Raises OSError."""
        self._targets[folder].add(target)
        if len(self._targets[folder]) > MOST:
            self._sync(folder)

    def settle(self, target: bytes | None = None) -> None:
        """Make all of it durable, or what is about one target.  Raises OSError."""
        for folder, targets in list(self._targets.items()):
            if target is None or not targets.isdisjoint({target, None}):
                self._sync(folder)

    def _sync(self, folder: Path) -> None:
        try:
            sync_folder(folder)
        except FileNotFoundError:
            pass  # with all that was in it
        del self._targets[folder]
