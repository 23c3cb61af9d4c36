"""How the C library deals with memory that is free: glibc's alone, elsewhere nothing is done."""

import ctypes
import sys
from typing import Final

KEPT: Final = 16 << 20
"""Bytes of free memory at the heap's end that stay ours."""

_libc = ctypes.CDLL(None)
_trim = getattr(_libc, "malloc_trim", None)
_option = getattr(_libc, "mallopt", None) if sys.platform == "linux" else None
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep() -> None:
    """Do not hand back at once what is free for a moment: pieces of a body come and go by the megabyte.

    The system would have to find each page of it anew, and to zero it.
    """
    if _option is not None:
        _option(_MMAP_THRESHOLD, KEPT)
        _option(_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Hand free memory back to the system: glibc keeps all that is free below something that is not.

    Takes up to a tenth of a second, in which others can go on: for a thread.
    """
    if _trim is not None:
        _trim(0)
