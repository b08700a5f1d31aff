"""Add up gradients of the ranks of one machine inside ppo.cpp: see ranks.hpp."""

from __future__ import annotations

import ctypes
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
    """The memory in which the ranks of `group` add up vectors of `floats` numbers. All ranks must make one."""

    def __init__(self, group: ProcessGroup, floats: int) -> None:
        self._group = group
        self._floats = -(-floats // LINE) * LINE
        self._memory = shared_memory(group, native_library().ranks_bytes(group.size, self._floats))
        self._numbers = torch.frombuffer(
            self._memory, dtype=torch.uint8
        )  # keeps the address known, and the memory open
        self._steps = 0
        native_library().ranks_enter(ctypes.byref(self._structure(None)), os.getpid())

    def for_epoch(self, shares: Tensor) -> NativeRanks:
        """Return what an epoch of as many steps as `shares` [M] float32 takes; all ranks must make its steps."""
        structure = self._structure(shares.data_ptr())
        self._steps += len(shares)
        return structure

    def _structure(self, shares: int | None) -> NativeRanks:
        return NativeRanks(
            rank=self._group.rank,
            size=self._group.size,
            memory=self._numbers.data_ptr(),
            floats=self._floats,
            steps=self._steps,
            shares=shares,
        )
