"""Exchange sums, values and decisions among the ranks of a run. With one rank nothing is sent and nothing changes."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import torch.distributed
from torch import Tensor

from ppolab.errors import ProcessError

Value = TypeVar("Value")


@dataclass(frozen=True)
class ProcessGroup:
    """Exchange values among the ranks of a run; this process is number `rank` of `size`.

    `shares_memory`: all ranks are on one machine where processes can share memory. `exchanged` sends a message there
    without torch.distributed, and returns those of all ranks, or None if one of them is too long for it.

    All ranks must call every method but `is_first`, and in the same order.

    Raises:
        ProcessError: from every method but `is_first`: another rank is gone.
    """

    rank: int = 0
    size: int = 1
    shares_memory: bool = False
    exchanged: Callable[[bytes], list[bytes] | None] | None = None

    @property
    def is_first(self) -> bool:
        """Return whether this is the rank that records, evaluates and writes."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all ranks, the same bits in each; return it."""
        if self.size == 1:
            return tensor
        if tensor.device.type == "cpu" and (parts := self._through_memory(tensor)) is not None:
            return tensor.copy_(reduce(torch.add, parts))
        with _peers():
            torch.distributed.all_reduce(tensor)
        return tensor

    def all_gather(self, value: Value) -> list[Value]:
        """Return the `value` of every rank, in their order; tensors in it must lie in the CPU's memory."""
        if self.size == 1:
            return [value]
        if (found := self._through_memory(value)) is not None:
            return found
        values: list[Value | None] = [None] * self.size
        with _peers():
            torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def broadcast(self, value: Value) -> Value:
        """Return the first rank's `value`."""
        if self.size == 1:
            return value
        if (found := self._through_memory(value if self.is_first else None)) is not None:
            return found[0]  # type: ignore[return-value]
        values = [value]
        with _peers():
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def _through_memory(self, value: Value) -> list[Value] | None:
        """Return the `value` of every rank; None where it takes torch.distributed."""
        if self.exchanged is None:
            return None
        messages = self.exchanged(_pickled(value))
        return None if messages is None else [pickle.loads(message) for message in messages]


def _reduced(tensor: Tensor) -> Any:
    """Return how to pickle a tensor: as an array, which takes a tenth of the time."""
    if tensor.dtype == torch.bfloat16:  # which NumPy does not know
        return tensor.__reduce_ex__(pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
    return torch.from_numpy, (tensor.detach().numpy(),)


class _Pickler(pickle.Pickler):
    dispatch_table = copyreg.dispatch_table | {Tensor: _reduced}


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the base class of what the backends raise
        raise ProcessError(f"another process of this run is gone: {str(error).splitlines()[0]}") from error


ALONE = ProcessGroup()
