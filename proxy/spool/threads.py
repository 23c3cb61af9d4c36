"""The threads that wait for the disk: of three kinds, so that none of them holds up another."""

from concurrent.futures import ThreadPoolExecutor

EACH = 8
"""Threads of a kind, at most: a disk does little more at once."""


class Threads:
    """`reading` brings what clients read and is not in memory: as slow as the disk is, with as many as there are.

    `writing` takes what comes from origins, which goes to memory mostly: quick, and an origin waits for it.
    `filing` does what an object costs once: names, deletions, and syncs that may take seconds.
    """

    def __init__(self) -> None:
        self.reading = ThreadPoolExecutor(EACH, "spool-read")
        self.writing = ThreadPoolExecutor(EACH, "spool-write")
        self.filing = ThreadPoolExecutor(EACH, "spool-file")

    def shutdown(self) -> None:
        """Once all is done that was begun.  Blocks."""
        for pool in (self.reading, self.writing, self.filing):
            pool.shutdown()
