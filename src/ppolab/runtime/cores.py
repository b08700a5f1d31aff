"""Count the processor cores that this process may use."""

from __future__ import annotations

import os

CORES = "PPOLAB_CORES"
"""Environment variable: how many processor cores a run of a sweep may use."""


def usable_cores() -> int:
    """Return the number of processor cores that this process may use; a setting of 0 threads stands for it.

    A sweep divides the machine's cores among its workers, and tells each its share in the variable `CORES`.
    """
    if os.environ.get(CORES, "").isdigit():
        return max(1, int(os.environ[CORES]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
