"""Memory that nobody uses, given back to the operating system."""

import ctypes
import sys


def trim() -> None:
    """Have glibc return what was freed, which it otherwise keeps for good: hundreds of MB after some explained models.

    Takes some ten milliseconds without the interpreter's lock: for a thread. Does nothing with another C library.
    """
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)
