"""Add up gradients of the ranks of one machine inside ppo.cpp: see ranks.hpp."""

from __future__ import annotations

import ctypes
import mmap
import os

import torch
from torch import Tensor

from ppolab.learning.native.library import native_library
from ppolab.learning.native.structures import NativeRanks
from ppolab.runtime.process_group import ProcessGroup
from ppolab.runtime.shared_memory import shared_memory

LINE = 16
"""Floats of a cache line."""


class RankSums:
    """The memory in which `size` ranks add up vectors of `floats` numbers, as rank number `rank` uses it.

    Args:
        memory: `bytes_of(size, floats)` bytes that all ranks share, zero at first.
        process: the number of the rank's process, by which the others see whether it is still there.
    """

    def __init__(self, rank: int, size: int, floats: int, memory: mmap.mmap | bytearray, process: int) -> None:
        self._rank = rank
        self._size = size
        self._floats = _whole_lines(floats)
        self._memory = torch.frombuffer(memory, dtype=torch.uint8)
        self._steps = 0
        native_library().ranks_enter(ctypes.byref(self._structure(None)), process)

    def for_epoch(self, shares: Tensor) -> NativeRanks:
        """Return what an epoch of at most as many steps as `shares` [M] float32 takes; `made` must follow it."""
        return self._structure(shares.data_ptr())

    def made(self, steps: int) -> None:
        """Count the steps that an epoch really made, which are as many in all ranks."""
        self._steps += steps

    def _structure(self, shares: int | None) -> NativeRanks:
        return NativeRanks(
            rank=self._rank,
            size=self._size,
            memory=self._memory.data_ptr(),
            floats=self._floats,
            steps=self._steps,
            shares=shares,
        )


def sums_of(group: ProcessGroup, floats: int) -> RankSums:
    """Return what the ranks of `group`, which are on one machine, add up vectors in. All of them must call this.

    Raises:
        ProcessError: another rank is gone, or shares no memory.
    """
    memory = shared_memory(group, bytes_of(group.size, floats))
    return RankSums(group.rank, group.size, floats, memory, os.getpid())


def bytes_of(size: int, floats: int) -> int:
    """Return how many bytes `size` ranks share for vectors of `floats` numbers."""
    return int(native_library().ranks_bytes(size, _whole_lines(floats)))


def _whole_lines(floats: int) -> int:
    return -(-floats // LINE) * LINE
