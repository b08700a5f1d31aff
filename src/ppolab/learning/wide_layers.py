"""Multiply large matrices with oneDNN, which computes PyTorch's convolutions too.

PyTorch multiplies with MKL, which on processors of other makers than Intel leaves half of their vector units unused. A
layer of 3136 x 512 and a minibatch of 256 then take 1.7 to 3 ms instead of 3.9 (AMD EPYC 9005, two threads).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


@cache
def registered() -> torch.library.Library:
    """Give PyTorch the operator `ppolab::matrix_product`, which its compiler calls as it stands.

    It is of rows [B, I] and weights [O, I], and there as long as the library that is returned. PyTorch's decorator for
    operators would import all of the compiler.
    """
    library = torch.library.Library("ppolab", "DEF")  # type: ignore[no-untyped-call]
    library.define("matrix_product(Tensor rows, Tensor weights) -> Tensor")  # type: ignore[no-untyped-call]
    library.impl("matrix_product", _matrix_product, "CPU")  # type: ignore[no-untyped-call]
    library.impl("matrix_product", _shape_of_product, "Meta")  # type: ignore[no-untyped-call]
    return library


def _matrix_product(rows: Tensor, weights: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weights, None, "none", [], "")
    return result


def _shape_of_product(rows: Tensor, weights: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[0])


OUTPUTS_AT_ONCE = 128
"""Rows of the weights whose slopes are computed together where they go into memory that is there already."""


class _Product(torch.autograd.Function):
    """The product with its derivative, in the form that `torch.func.grad` takes."""

    @staticmethod
    def forward(rows: Tensor, weights: Tensor, into: Tensor | None) -> Tensor:  # noqa: ARG004  # of the backward pass
        registered()
        result: Tensor = torch.ops.ppolab.matrix_product(rows, weights)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], _output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.into = inputs[2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weights = ctx.saved_tensors
        of_rows = product(slope, weights.t())
        if ctx.into is None or torch.is_grad_enabled():
            return of_rows, product(slope.t(), rows.t()), None
        for first in range(0, len(weights), OUTPUTS_AT_ONCE):
            chosen = slice(first, first + OUTPUTS_AT_ONCE)
            ctx.into[chosen] = product(slope[:, chosen].t(), rows.t())
        return of_rows, ctx.into, None


def product(rows: Tensor, weights: Tensor, into: Tensor | None = None) -> Tensor:
    """Return rows [B, I] times the transposed weights [O, I]: [B, O]; differentiable, any number of times.

    Args:
        into: [O, I] the first derivative by the weights is written there; it is as large as they are.
    """
    result: Tensor = _Product.apply(rows, weights, into)  # type: ignore[no-untyped-call]
    return result


class WideLinear(nn.Linear):
    """A linear layer that oneDNN computes in training mode, while gradients are, on a processor, in 32 bits.

    Elsewhere it is PyTorch's own: few rows gain nothing, and an exported policy needs PyTorch's operators.

    Attributes:
        into: see `product`.
    """

    into: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled() and usable(input)):
            return super().forward(input)
        return product(input, self.weight, self.into) + self.bias


def usable(rows: Tensor) -> bool:
    """Return whether oneDNN multiplies rows like these."""
    there = rows.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and rows.ndim == 2 and not torch.is_autocast_enabled("cpu")
