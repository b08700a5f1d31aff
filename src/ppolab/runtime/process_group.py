"""Exchange sums, values and decisions among the ranks of a run. With one rank nothing is sent and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed
from torch import Tensor

from ppolab.errors import ProcessError

Value = TypeVar("Value")


@dataclass(frozen=True)
class ProcessGroup:
    """Exchange values among the ranks of a run; this process is number `rank` of `size`.

    `shares_memory`: all ranks are on one machine where processes can share memory.

    All ranks must call every method but `is_first`, and in the same order.

    Raises:
        ProcessError: from every method but `is_first`: another rank is gone.
    """

    rank: int = 0
    size: int = 1
    shares_memory: bool = False

    @property
    def is_first(self) -> bool:
        """Return whether this is the rank that records, evaluates and writes."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all ranks, the same bits in each; return it."""
        if self.size > 1:
            with _peers():
                torch.distributed.all_reduce(tensor)
        return tensor

    def all_gather(self, value: Value) -> list[Value]:
        """Return the `value` of every rank, in their order; tensors in it must lie in the CPU's memory."""
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        with _peers():
            torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def broadcast(self, value: Value) -> Value:
        """Return the first rank's `value`."""
        if self.size == 1:
            return value
        values = [value]
        with _peers():
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the base class of what the backends raise
        raise ProcessError(f"another process of this run is gone: {str(error).splitlines()[0]}") from error


ALONE = ProcessGroup()
