"""One pass over a rollout's samples: a gradient step per minibatch, step by step or in one call of C++ code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from ppolab.config import Config, usable_cores
from ppolab.gradient import Gradient
from ppolab.native import AdamState, NativePolicy
from ppolab.objective import Samples
from ppolab.parameters import clip_norm, optimizer_step

Epoch = Callable[[Samples], tuple[Tensor, Tensor]]
"""Samples -> (LossTerms as columns [steps, terms], norms [steps] of the gradients before clipping)."""


def stepwise_epoch(
    gradient: Gradient, vector: torch.nn.Parameter, optimizer: torch.optim.Optimizer, config: Config,
    generator: torch.Generator,
) -> Epoch:  # fmt: skip
    """For any gradient and any optimizer."""
    step = optimizer_step(optimizer, vector)

    def epoch(samples: Samples) -> tuple[Tensor, Tensor]:
        all_terms, norms = [], []
        for batch in minibatches(samples, config.minibatch_size, generator):
            result, terms = gradient(vector.detach(), *batch)
            clipped, norm = clip_norm(result, config.max_grad_norm)
            step(clipped)
            all_terms.append(terms)
            norms.append(norm)
        return torch.stack(all_terms), torch.stack(norms)

    return epoch


def native_epoch(
    native: NativePolicy, vector: torch.nn.Parameter, optimizer: torch.optim.Optimizer, config: Config,
    generator: torch.Generator,
) -> Epoch:  # fmt: skip
    """The same steps in C++ for Adam and AdamW, whose state stays in `optimizer`."""

    threads = config.trainer.threads or min(2, usable_cores())

    def epoch(samples: Samples) -> tuple[Tensor, Tensor]:
        count = len(samples.weights)
        order = torch.randperm(count, generator=generator)
        sizes = torch.tensor(minibatch_sizes(count, config.minibatch_size))
        terms, norms = native.epoch(
            samples, order, sizes, _adam_state(optimizer, vector), config.max_grad_norm, threads
        )
        optimizer.state[vector]["step"] += len(sizes)
        return terms, norms

    return epoch


def _adam_state(optimizer: torch.optim.Optimizer, vector: torch.nn.Parameter) -> AdamState:
    """PyTorch creates the state at the first step; so do we."""
    group, state = optimizer.param_groups[0], optimizer.state[vector]
    if not state:
        state |= {"step": torch.zeros(())} | {name: torch.zeros_like(vector) for name in ("exp_avg", "exp_avg_sq")}
    return AdamState(
        state["exp_avg"], state["exp_avg_sq"], int(state["step"]), float(group["lr"]), group["betas"], group["eps"],
        group["weight_decay"], group["decoupled_weight_decay"], group["maximize"],
    )  # fmt: skip


def minibatch_sizes(count: int, size: int) -> list[int]:
    """ceil(count / size) nearly equal parts."""
    batches = -(-count // size)
    return [count // batches + (index < count % batches) for index in range(batches)]


def minibatches(samples: Samples, size: int, generator: torch.Generator) -> Iterator[Samples]:
    """Every sample exactly once, in random order, in ceil(B / size) minibatches of nearly equal count.

    All have `size` rows, because a compiled function wants one shape; the rows that fill them up come last and weigh 0.
    """
    count = len(samples.weights)
    places, weights = _layout(count, size)
    device = samples.weights.device
    rows = torch.randperm(count, generator=generator)[places].to(device)
    shuffled = (tensor.index_select(0, rows).view(-1, size, *tensor.shape[1:]) for tensor in samples[:-1])
    return (Samples(*parts) for parts in zip(*shuffled, weights.to(device), strict=True))


@lru_cache(maxsize=64)
def _layout(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Of each row of each minibatch: its place in the random order [batches * size], its weight [batches, size]."""
    sizes = minibatch_sizes(count, size)
    places = torch.zeros((len(sizes), size), dtype=torch.int64)
    weights = torch.zeros((len(sizes), size))
    for index, part in enumerate(torch.split(torch.arange(count), sizes)):
        places[index, : len(part)] = part
        weights[index, : len(part)] = 1.0
    return places.view(-1), weights
