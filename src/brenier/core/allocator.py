"""Memory that a process uses again: commands and workers ask for it, the library leaves the user's process as it is.

The C library gives large arrays back to the system when they are freed, and maps the next ones anew, page by page. An
operation that writes an array of 32 MiB then takes up to ten times as long.
"""

import ctypes
import sys
from functools import cache

KEPT = {-1: 2**28, -3: 2**25}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD: bytes that are kept for the next arrays


@cache
def keep_memory() -> None:
    """Have this process use again what it frees, where the C library is glibc.

    Dask, too, has its workers give it back at once (its nanny sets MALLOC_TRIM_THRESHOLD_), which took a third of all
    their time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, size in KEPT.items():
            mallopt(parameter, size)
