"""Tell the C library how to handle the memory that a process frees, and the system what it no longer needs."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What glibc's mallopt calls these."""
KEPT = 1 << 30
LARGEST_FROM_THE_HEAP = 32 << 20
"""The most that glibc takes for its threshold."""
NOT_NEEDED = 4
"""What Linux's madvise calls it."""
CODE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-xp .* /.*$(?:\n[A-Z].*$)*?\nAnonymous: +0 kB$", re.MULTILINE)
"""A mapping of a file that holds code, in Linux's list of mappings, of which nothing was changed in memory."""


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


def forget_code() -> None:
    """Take the code of libraries out of this process's memory: what is called again is mapped again, from the cache.

    Most of what PyTorch's import has called only registers operators, and is never called again.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not Linux
        library = ctypes.CDLL(None)
        for found in CODE.finditer(Path("/proc/self/smaps").read_text()):
            begin, end = (int(address, 16) for address in found.groups())
            library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), NOT_NEEDED)
