"""Memory that a crowd has left behind."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def give_back() -> None:
    """Hand free memory back to the system: glibc keeps all that is free below something that is not.

    Takes up to a tenth of a second, in which others can go on: for a thread.
    """
    if _trim is not None:
        _trim(0)
