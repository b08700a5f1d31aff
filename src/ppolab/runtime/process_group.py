"""What the processes of one run add up and decide together. With one process, nothing is sent and nothing changes."""

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
class Processes:
    """All processes of a run, and which one this is: number `rank` of `size`.

    Every method but `is_first` must be called by all of them, in the same order.

    Raises:
        ProcessError: from every method but `is_first`: another process is gone.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The one that records, evaluates and writes."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all processes: the same bits in each. Returns it."""
        if self.size > 1:
            with _peers():
                torch.distributed.all_reduce(tensor)
        return tensor

    def all_of(self, value: Value) -> list[Value]:
        """Everybody's `value`, by rank; tensors in it must lie in the CPU's memory."""
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        with _peers():
            torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def first_of(self, value: Value) -> Value:
        """The first process's `value`."""
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
    except RuntimeError as error:  # the family of all that the backends raise
        raise ProcessError(f"another process of this run is gone: {str(error).splitlines()[0]}") from error


ALONE = Processes()
