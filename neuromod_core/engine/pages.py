"""Memory that is freed and asked for again a thousand times a second should stay with the process."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of glibc's mallopt(3)
LARGEST = 2**31 - 1


KEPT = {TRIM_THRESHOLD: LARGEST, TOP_PAD: 2**26, MMAP_THRESHOLD: 2**30}


def keep_pages() -> bool:
    """Tell the C library to reuse freed memory instead of returning it to the kernel; return whether it could be told.

    Tables over the vocabulary are tens of megabytes and live for a millisecond. By default glibc maps each anew, and
    the kernel clears every page of it. A process that only runs models is better off keeping them, at the price of a
    peak that is never given back.  Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library without it
        return False
    return all(mallopt(name, value) == 1 for name, value in KEPT.items())
