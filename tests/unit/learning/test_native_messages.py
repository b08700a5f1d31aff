"""Messages between ranks of one machine: here the ranks are threads of one process."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from ppolab.errors import ProcessError
from ppolab.learning.native.library import compiler
from ppolab.learning.native.messages import CAPACITY, RankMessages, with_messages
from ppolab.runtime.process_group import ALONE, ProcessGroup

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
NO_PROCESS = 2**22 + 1
"""Linux gives no process such a number."""


def made(size: int, processes: list[int] | None = None) -> list[RankMessages]:
    memory: list[mmap.mmap] = []

    def shared(count: int) -> mmap.mmap:
        if not memory:
            memory.append(mmap.mmap(-1, count))
        return memory[0]

    numbers = processes or [os.getpid()] * size
    return [RankMessages(rank, size, shared, number) for rank, number in enumerate(numbers)]


def sent(ranks: list[RankMessages], rounds: list[list[bytes]]) -> list[list[list[bytes] | None]]:
    """Return what each rank gets in each round of messages."""
    with ThreadPoolExecutor(len(ranks)) as threads:
        works = [
            threads.submit(lambda rank=rank, own=own: [rank.exchanged(message) for message in own])
            for rank, own in zip(ranks, zip(*rounds, strict=True), strict=True)
        ]
        return [work.result(timeout=60) for work in works]


def test_every_rank_gets_what_all_sent_round_after_round() -> None:
    rounds = [[f"{number} of {rank}".encode() * (1 + number % 7) for rank in range(3)] for number in range(200)]
    for found in sent(made(3), rounds):
        assert found == rounds


def test_nobody_gets_anything_where_one_message_is_too_long_and_the_next_round_is_whole() -> None:
    rounds = [[b"a", b"b" * (CAPACITY + 1)], [b"a" * CAPACITY, b""], [b"c", b"d"]]
    for found in sent(made(2), rounds):
        assert found == [None, *rounds[1:]]


def test_a_rank_whose_process_has_ended_is_not_waited_for() -> None:
    left, _ = made(2, [os.getpid(), NO_PROCESS])
    with pytest.raises(ProcessError, match="another process of this run is gone"):
        left.exchanged(b"hello")


def test_a_group_without_shared_memory_stays_as_it_is() -> None:
    assert with_messages(ALONE) is ALONE
    apart = ProcessGroup(1, 2)
    assert with_messages(apart) is apart
