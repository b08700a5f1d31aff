"""Look for what a CUDA graph cannot hold, where there is no GPU: PyTorch's `meta` device stands for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default", "repeat_interleave.Tensor")
"""Operations whose answer the processor needs before it can go on."""
BY_VALUE = ("add", "sub", "rsub", "mul", "div", "pow", "where", "minimum", "maximum", "clamp")
"""Operations that take a number of the processor [] into the kernel's arguments."""


class AsOnAGpu(TorchDispatchMode):
    """Note what is done in the block and could not be captured.

    Attributes:
        problems: operations that wait for the device, or that read memory of the processor.
        count: of all operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        self.count += 1
        tensors = [each for each in tree_leaves((args, kwargs, answer)) if isinstance(each, Tensor)]
        elsewhere = [each for each in tensors if each.device != META]
        name = str(func).removeprefix("aten.")
        by_value = name.partition(".")[0].rstrip("_") in BY_VALUE or len(elsewhere) == len(tensors)
        if name.startswith(WAITS) or any(each.ndim for each in elsewhere) or (elsewhere and not by_value):
            self.problems.append(f"{name} of {[(each.device.type, list(each.shape)) for each in tensors]}")
        return answer


META = torch.device("meta")
