"""Tell the C library how to handle the memory that a process frees."""

from __future__ import annotations

import contextlib
import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What glibc's mallopt calls these."""
KEPT = 1 << 30
LARGEST_FROM_THE_HEAP = 32 << 20
"""The most that glibc takes for its threshold."""


def return_free_memory() -> None:
    """Give free memory back to the system: glibc keeps what one thread freed from the others."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Keep up to a gigabyte of what is freed: every gradient step on images needs the same tens of megabytes again.

    By default they go back to the system, which clears them before it gives them out anew.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, LARGEST_FROM_THE_HEAP)
        library.mallopt(TRIM_THRESHOLD, KEPT)
