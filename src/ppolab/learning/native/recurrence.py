"""The steps of recurrent layers in C++, for PyTorch's autograd: recurrence.hpp."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.memory import GruLayer, LstmLayer, Memory
from ppolab.learning.native.library import library_problem, native_library

LANES = 8
"""Units are handled so many at a time."""


def use_native_recurrence(policy: ActorCritic) -> None:
    """Let the memories of `policy` make their steps in C++, where that can be done."""
    memories = [module for module in policy.modules() if isinstance(module, Memory)]
    for memory in memories:
        on_cpu = all(parameter.is_cpu for parameter in memory.parameters())
        if on_cpu and memory.size % LANES == 0 and library_problem() is None:
            memory.over_steps = native_steps


def native_steps(
    layer: GruLayer | LstmLayer, projected: Tensor, state: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return outputs [T, B, H] and last state [K, B, H] of a layer, differentiable once.

    Args:
        projected: [T, B, G] products of the inputs. keep: [T, B, 1].
    """
    kept = keep if keep is None else keep.contiguous()
    if isinstance(layer, GruLayer):
        recurrent = layer.recurrent
        outputs, _, _ = _Gru.apply(projected, state[0], kept, recurrent.weight, recurrent.bias)  # type: ignore[no-untyped-call]
        return outputs, outputs[-1:]
    outputs, cell, *_ = _Lstm.apply(projected, state, kept, layer.recurrent.weight)  # type: ignore[no-untyped-call]
    return outputs, torch.stack((outputs[-1], cell))


class _Gru(torch.autograd.Function):
    @staticmethod
    def forward(
        projected: Tensor, state: Tensor, keep: Tensor | None, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        projected, state, bias = projected.contiguous(), state.contiguous(), bias.contiguous()
        weights = weight.t().contiguous()
        steps, rows, size = *projected.shape[:2], state.shape[1]
        outputs, before = projected.new_empty((2, steps, rows, size)).unbind()
        gates = projected.new_empty((steps, rows, 4 * size))
        native_library().gru_forward(
            steps, rows, size, *_pointers(projected, state, keep, weights, bias, outputs, before, gates)
        )
        return outputs, before, gates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(True)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[2], inputs[3], *output[1:])

    @staticmethod
    def backward(ctx: Any, slopes: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        keep, weight, before, gates = ctx.saved_tensors
        slopes, weights = slopes.contiguous(), weight.contiguous()
        steps, rows, size = before.shape
        of_inputs, of_products = slopes.new_empty((2, steps, rows, 3 * size)).unbind()
        of_state = slopes.new_empty((rows, size))
        native_library().gru_backward(
            steps, rows, size,
            *_pointers(slopes, keep, weights, before, gates, of_inputs, of_products, of_state),
        )  # fmt: skip
        flat = of_products.view(-1, 3 * size)
        return of_inputs, of_state, None, flat.t() @ before.view(-1, size), flat.sum(0)


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(projected: Tensor, state: Tensor, keep: Tensor | None, weight: Tensor) -> tuple[Tensor, ...]:
        projected, state = projected.contiguous(), state.contiguous()
        weights = weight.t().contiguous()
        steps, rows, size = *projected.shape[:2], state.shape[2]
        outputs, cells = projected.new_empty((2, steps, rows, size)).unbind()
        before, gates = projected.new_empty((2, steps, rows, size)), torch.empty_like(projected)
        native_library().lstm_forward(
            steps, rows, size, *_pointers(projected, state, keep, weights, outputs, cells, before, gates)
        )
        return outputs, cells[-1].clone(), cells, before, gates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(True)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(inputs[2], inputs[3], *output[2:])

    @staticmethod
    def backward(ctx: Any, slopes: Tensor, of_cell: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        keep, weight, cells, before, gates = ctx.saved_tensors
        slopes, weights = slopes.contiguous(), weight.contiguous()
        steps, rows, size = cells.shape
        of_products = torch.empty_like(gates)
        of_state = torch.stack((torch.zeros_like(of_cell), of_cell))
        native_library().lstm_backward(
            steps, rows, size,
            *_pointers(slopes, keep, weights, cells, before, gates, of_products, of_state),
        )  # fmt: skip
        flat = of_products.view(-1, 4 * size)
        return of_products, of_state, None, flat.t() @ before[0].view(-1, size)


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    assert all(each is None or (each.is_contiguous() and each.dtype == torch.float32) for each in tensors)
    return [None if each is None else each.data_ptr() for each in tensors]
