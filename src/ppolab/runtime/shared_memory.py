"""Share memory among the ranks of one machine."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

from ppolab.errors import ProcessError
from ppolab.runtime.process_group import ProcessGroup

Memory = mmap.mmap


def shared_memory(group: ProcessGroup, size: int) -> Memory:
    """Return `size` bytes, zero at first, that all ranks of `group` share. All of them must call this.

    The memory has no name that could outlive the run: the first rank makes it, and the others find it among the first
    one's open files. It is gone with the last process that has it.

    Raises:
        ProcessError: another rank is gone, or cannot open it.
    """
    assert sys.platform == "linux" and group.shares_memory
    handle = os.memfd_create("ppolab") if group.is_first else -1
    if group.is_first:
        os.truncate(handle, size)
    path = group.broadcast(f"/proc/{os.getpid()}/fd/{handle}")
    problem: str | None = None
    memory: Memory | None = None
    try:
        if not group.is_first:
            handle = os.open(path, os.O_RDWR)
        memory = mmap.mmap(handle, size)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    problems = [each for each in group.all_gather(problem) if each]  # until then the first rank keeps it open
    if handle >= 0:
        os.close(handle)
    if problems or memory is None:
        raise ProcessError(f"the processes of this run share no memory ({problems[0]})")
    return memory


def can_share_memory(nodes: int) -> bool:
    """Return whether the ranks of a run on so many machines can share memory."""
    return sys.platform == "linux" and nodes == 1 and Path("/proc/self/fd").is_dir()
