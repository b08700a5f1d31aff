"""Let the ranks of one machine share an update inside ppo.cpp: see ranks.hpp."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ppolab.learning.native.library import native_library
from ppolab.learning.native.structures import COLUMNS, OF_SEQUENCES, NativeRanks
from ppolab.learning.objective import Samples
from ppolab.runtime.process_group import ProcessGroup
from ppolab.runtime.shared_memory import Memory, shared_memory

LINE = 64
"""Bytes of a cache line."""


class RankWork:
    """What `size` ranks need to share updates of `floats` parameters, as rank number `rank` sees it.

    Args:
        shared: returns so many bytes, zero at first, that all ranks share; all of them call it alike.
        process: the number of the rank's process, by which the others see whether it is still there.
    """

    def __init__(self, rank: int, size: int, floats: int, shared: Callable[[int], Memory], process: int) -> None:
        self._rank = rank
        self._size = size
        self._floats = _rounded(floats, LINE // 4)
        self._shared = shared
        self._memory = torch.frombuffer(
            shared(int(native_library().ranks_bytes(size, self._floats))), dtype=torch.uint8
        )
        self._samples = torch.empty(0, dtype=torch.uint8)
        self._written: dict[str, Tensor] = {}  # this rank's part of what is there
        self._counts: Sequence[int] = ()
        native_library().ranks_enter(ctypes.byref(self.structure()), process)

    def structure(self) -> NativeRanks:
        """Return what C++ takes, which must not outlive this."""
        return NativeRanks(rank=self._rank, size=self._size, memory=self._memory.data_ptr(), floats=self._floats)

    def samples_of_all(self, mine: Samples, counts: Sequence[int], length: int) -> Samples:
        """Write this rank's samples where all see them; return those of all ranks, rank after rank.

        Those of the others are there once all ranks are in the epoch that follows, which all must make.

        Args:
            counts: how many samples, or with memory sequences, the ranks have; those that are not named have none.
            length: steps of a sequence, 1 without memory.
        """
        total, first = sum(counts), sum(counts[: self._rank])
        own = sum(counts[self._rank : self._rank + 1])
        columns = dict(_columns(mine, (length, own)))
        shapes = {name: (len(column), total, *column.shape[2:]) for name, column in columns.items()}
        sizes = {
            name: _rounded(math.prod(shapes[name]) * column.element_size(), LINE) for name, column in columns.items()
        }
        if sum(sizes.values()) > len(self._samples):
            self._samples = torch.frombuffer(self._shared(2 * sum(sizes.values())), dtype=torch.uint8)
        if counts != self._counts:
            self._written, self._counts = {}, counts
        found, start = {}, 0
        for name, column in columns.items():
            numbers = self._samples[start : start + sizes[name]].view(column.dtype)
            whole = numbers[: math.prod(shapes[name])].view(shapes[name])
            if self._written.get(name) is not getattr(mine, name):  # most are the same in all epochs of an update
                whole[:, first : first + own] = column
                self._written[name] = getattr(mine, name)
            found[name] = whole if name == "states" else whole.flatten(0, 1)
            start += sizes[name]
        return mine._replace(**found)


def _columns(samples: Samples, shape: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Return what C++ reads, each as [steps or layers, samples or sequences, ...]."""
    for name in COLUMNS if samples.states is None else (*COLUMNS, *OF_SEQUENCES):
        column = getattr(samples, name)
        yield name, column if name == "states" else column.unflatten(0, shape)


def work_of(group: ProcessGroup, floats: int) -> RankWork:
    """Return what the ranks of `group`, which are on one machine, share updates with. All of them must call this.

    Raises:
        ProcessError: another rank is gone, or shares no memory.
    """
    return RankWork(group.rank, group.size, floats, partial(shared_memory, group), os.getpid())


def _rounded(count: int, unit: int) -> int:
    return -(-count // unit) * unit
