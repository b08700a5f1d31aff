"""Values that ranks exchange through memory, without torch.distributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ppolab.runtime.process_group import ProcessGroup


@dataclass(frozen=True)
class Found:
    """What a rank may tell the others."""

    count: int
    mean: Tensor


def group_of(rank: int = 0) -> ProcessGroup:
    """Return one of two ranks; the other one says the same."""
    return ProcessGroup(rank, 2, shares_memory=True, exchanged=lambda message: [message, message])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_tensors_arrive_as_they_were_sent(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    sent = (torch.rand(shape) * 9).to(dtype)
    for found in group_of().all_gather(sent):
        assert found.dtype == dtype and found.shape == shape and torch.equal(found, sent)
        found.zero_()  # they may be changed


def test_parts_of_tensors_and_what_holds_them_arrive() -> None:
    sent = {"a": [Found(3, torch.arange(6.0).view(2, 3).t())], "b": None, "c": torch.nn.Parameter(torch.ones(2))}
    for found in group_of().all_gather(sent):
        assert found["a"][0].count == 3 and torch.equal(found["a"][0].mean, sent["a"][0].mean)
        assert found["b"] is None and torch.equal(found["c"], torch.ones(2))


def test_sums_are_in_the_order_of_ranks_and_in_place() -> None:
    tensor = torch.tensor([1.0, 2.5])
    assert group_of().all_reduce(tensor) is tensor
    assert tensor.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("value", [None, 5, "text", Found(1, torch.ones(1))])
def test_the_first_rank_s_value_is_what_all_have(value: Any) -> None:
    assert group_of(rank=0).broadcast(value) == value
    messages = [b"", b""]

    def exchanged(message: bytes) -> list[bytes]:
        messages[1] = message
        return messages

    def kept(message: bytes) -> list[bytes]:
        messages[0] = message
        return [message, message]

    ProcessGroup(0, 2, shares_memory=True, exchanged=kept).broadcast(value)
    found = ProcessGroup(1, 2, shares_memory=True, exchanged=exchanged).broadcast("of the second rank")
    assert found == value and b"of the second rank" not in messages[1]


def test_what_is_too_long_goes_by_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    group = ProcessGroup(0, 2, shares_memory=True, exchanged=lambda _: None)

    def gathered(values: list[Any], value: Any) -> None:
        values[:] = [value, "other"]

    def added(tensor: Tensor) -> None:
        tensor.add_(1)

    def told(values: list[Any], src: int) -> None:
        values[0] = f"of {src}"

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    monkeypatch.setattr(torch.distributed, "all_reduce", added)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", told)
    assert group.all_gather("mine") == ["mine", "other"]
    assert group.all_reduce(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert group.broadcast("mine") == "of 0"
