"""Let the ranks of one machine send each other messages through memory that they share.

A message of torch.distributed takes a millisecond: the other process has to be woken. Here it looks at the memory until
the message is there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ppolab.errors import ProcessError
from ppolab.learning.native.library import library_problem, native_library
from ppolab.learning.native.structures import NativeRanks
from ppolab.runtime.process_group import ProcessGroup
from ppolab.runtime.shared_memory import Memory, shared_memory

CAPACITY = 1 << 20
"""Bytes of a message, without the number that says how long it is."""
HEADER = 8
PATIENCE = 200
"""Milliseconds after which a signal is heeded while others are waited for."""


class RankMessages:
    """What `size` ranks write to each other, as rank number `rank` sees it.

    There are two places for each rank, in turn: a rank writes again where all have read.

    Args:
        shared, process: as `RankWork` takes them.
    """

    def __init__(self, rank: int, size: int, shared: Callable[[int], Memory], process: int) -> None:
        self._library = native_library()
        self._rank = rank
        self._size = size
        self._desks = int(self._library.ranks_bytes(size, 0))
        self._memory = memoryview(shared(self._desks + 2 * size * (HEADER + CAPACITY)))
        start = torch.frombuffer(self._memory, dtype=torch.uint8).data_ptr()
        self._ranks = NativeRanks(rank=rank, size=size, memory=start, floats=0)
        self._times = 0
        self._library.ranks_enter(ctypes.byref(self._ranks), process)

    def exchanged(self, message: bytes) -> list[bytes] | None:
        """Return the messages of all ranks; None, on all of them, if one is too long. All of them must call this.

        Raises:
            ProcessError: another rank is gone.
        """
        mine = self._place(self._rank)
        mine[:HEADER] = len(message).to_bytes(HEADER, "little")
        if len(message) <= CAPACITY:
            mine[HEADER : HEADER + len(message)] = message
        self._meet()
        places = [self._place(rank) for rank in range(self._size)]
        self._times += 1
        lengths = [int.from_bytes(place[:HEADER], "little") for place in places]
        if max(lengths) > CAPACITY:
            return None
        return [bytes(place[HEADER : HEADER + length]) for place, length in zip(places, lengths, strict=True)]

    def _place(self, rank: int) -> memoryview:
        start = self._desks + (2 * rank + self._times % 2) * (HEADER + CAPACITY)
        return self._memory[start : start + HEADER + CAPACITY]

    def _meet(self) -> None:
        time = self._library.ranks_arrive(ctypes.byref(self._ranks))
        while (arrived := self._library.ranks_await(ctypes.byref(self._ranks), time, PATIENCE)) == 0:
            pass
        if arrived < 0:
            raise ProcessError("another process of this run is gone")


def with_messages(group: ProcessGroup) -> ProcessGroup:
    """Return `group` with messages through shared memory, where it shares any. All ranks must call this.

    Raises:
        ProcessError: another rank is gone, or shares no memory.
    """
    if not group.shares_memory or any(group.all_gather(library_problem())):
        return group
    messages = RankMessages(group.rank, group.size, partial(shared_memory, group), os.getpid())
    return replace(group, exchanged=messages.exchanged)
