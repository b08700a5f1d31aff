"""Memory that ranks share: it has no name, and one that cannot be opened is a problem of the run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ppolab.errors import ProcessError
from ppolab.runtime.process_group import ProcessGroup, Value
from ppolab.runtime.shared_memory import can_share_memory, shared_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ranks share memory on Linux only")


class Told(ProcessGroup):
    """The second of two ranks, whose first one says that the memory is at `place`."""

    place = ""

    def broadcast(self, value: Value) -> Value:
        return self.place  # type: ignore[return-value]

    def all_gather(self, value: Value) -> list[Value]:
        return [value]


def test_memory_is_zero_and_has_no_name() -> None:
    before, files = set(Path("/dev/shm").iterdir()), list(Path("/proc/self/fd").iterdir())
    memory = shared_memory(ProcessGroup(shares_memory=True), 5000)
    assert bytes(memory) == bytes(5000)
    assert set(Path("/dev/shm").iterdir()) <= before
    memory.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == len(files)


def test_another_rank_writes_into_the_same_memory() -> None:
    handle = os.memfd_create("first")
    os.truncate(handle, 100)
    second = Told(1, 2, shares_memory=True)
    Told.place = f"/proc/{os.getpid()}/fd/{handle}"
    shared_memory(second, 100)[:5] = b"hello"
    assert os.pread(handle, 5, 0) == b"hello"
    os.close(handle)


def test_memory_that_cannot_be_opened_is_told() -> None:
    Told.place = "/proc/self/fd/none"
    with pytest.raises(ProcessError, match=r"share no memory \(/proc/self/fd/none: No such file or directory\)"):
        shared_memory(Told(1, 2, shares_memory=True), 100)


def test_ranks_of_several_machines_share_none() -> None:
    assert can_share_memory(1)
    assert not can_share_memory(2)
