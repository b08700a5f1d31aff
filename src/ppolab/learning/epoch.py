"""One pass over a rollout's samples: a gradient step per minibatch, step by step or in one call of C++ code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppolab.config import Config, usable_cores
from ppolab.core.losses import standardized
from ppolab.gradient import Gradient
from ppolab.native import AdamState, NativePolicy
from ppolab.objective import MEANS, LossTerms, Samples
from ppolab.parallel import Processes
from ppolab.parameters import clip_norm, optimizer_step


@dataclass(frozen=True)
class Order:
    """A partition of all processes' samples into minibatches, as one process sees it.

    Attributes:
        places: [B] which of this process's samples, minibatch after minibatch.
        sizes: [M] how many of them each minibatch has. totals: [M] the same over all processes.
    """

    places: Tensor
    sizes: Tensor
    totals: Tensor

    def parts(self, size: int) -> Iterator[Order]:
        """Runs of minibatches, each of about `size` samples of all processes."""
        count = max(1, min(len(self.totals), int(self.totals.sum()) // size))
        lengths = even_parts(len(self.totals), count)
        sizes, totals = torch.split(self.sizes, lengths), torch.split(self.totals, lengths)
        places = torch.split(self.places, [int(part.sum()) for part in sizes])
        return map(Order, places, sizes, totals)


Epoch = Callable[[Samples, Order], tuple[Tensor, Tensor]]
"""-> (LossTerms as columns [M, terms], norms [M] of the gradients before clipping), over all processes."""


def shuffled(owners: Tensor, rank: int, size: int, generator: torch.Generator) -> Order:
    """A random order in ceil(B / size) minibatches; equal generators draw the same one in every process.

    Args:
        owners: [B] the process that has each sample, in the order that one process would have collected them in.
    """
    totals = torch.tensor(even_parts(len(owners), -(-len(owners) // size)))
    order = torch.randperm(len(owners), generator=generator)
    mine = owners == rank
    chosen = mine[order]
    before = torch.cat([torch.zeros(1, dtype=torch.int64), chosen.cumsum(0)])  # how many of mine lie before a place
    ends = totals.cumsum(0)
    return Order((mine.cumsum(0) - 1)[order[chosen]], before[ends] - before[ends - totals], totals)


def even_parts(count: int, parts: int) -> list[int]:
    """`count` in nearly equal parts, the larger ones first."""
    return [count // parts + (index < count % parts) for index in range(parts)]


def with_standardized_advantages(samples: Samples, order: Order, processes: Processes) -> Samples:
    """`samples` with advantages that have mean 0 and deviation 1 in every minibatch, over all processes."""
    places = order.places.to(samples.advantages.device)
    groups = torch.repeat_interleave(order.sizes).to(places.device)
    counts = order.totals.to(places.device)
    advantages = torch.empty_like(samples.advantages)
    advantages[places] = standardized(samples.advantages[places], groups, counts, processes.add_up)
    return samples._replace(advantages=advantages)


def stepwise_epoch(
    gradient: Gradient, vector: torch.nn.Parameter, optimizer: torch.optim.Optimizer, config: Config,
    processes: Processes,
) -> Epoch:  # fmt: skip
    """For any gradient, any optimizer and any number of processes."""
    step = optimizer_step(optimizer, vector)

    def epoch(samples: Samples, order: Order) -> tuple[Tensor, Tensor]:
        all_terms, norms = [], []
        shares = (order.sizes / order.totals).tolist()
        for batch, share in zip(minibatches(samples, order, config.minibatch_size), shares, strict=True):
            if processes.size == 1:
                result, terms = gradient(vector.detach(), *batch)
            else:
                result, terms = _over_all(processes, gradient, vector.detach(), batch, share)
            clipped, norm = clip_norm(result, config.max_grad_norm)
            step(clipped)
            all_terms.append(terms)
            norms.append(norm)
        return torch.stack(all_terms), torch.stack(norms)

    return epoch


def _over_all(
    processes: Processes, gradient: Gradient, vector: Tensor, batch: Samples, share: float
) -> tuple[Tensor, Tensor]:
    """Gradient and terms of a minibatch of which this process has `share`; one message for both."""
    message = vector.new_zeros(len(vector) + len(LossTerms._fields))
    if share > 0:
        result, terms = gradient(vector, *batch)
        weights = terms.new_tensor([share if name in MEANS else 1.0 for name in LossTerms._fields])
        message = torch.cat([result * share, (terms * weights).to(result.dtype)])
    processes.add_up(message)
    return message[: len(vector)], message[len(vector) :]


def native_epoch(
    native: NativePolicy, vector: torch.nn.Parameter, optimizer: torch.optim.Optimizer, config: Config
) -> Epoch:
    """The same steps in C++ for Adam and AdamW, whose state stays in `optimizer`, in one process."""

    threads = config.trainer.threads or min(2, usable_cores())

    def epoch(samples: Samples, order: Order) -> tuple[Tensor, Tensor]:
        terms, norms = native.epoch(
            samples, order.places, order.sizes, _adam_state(optimizer, vector), config.max_grad_norm, threads
        )
        optimizer.state[vector]["step"] += len(order.sizes)
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


def minibatches(samples: Samples, order: Order, width: int) -> Iterator[Samples]:
    """This process's samples of every minibatch.

    All have `width` rows, because a compiled function wants one shape; those that fill them up come last and weigh 0.
    """
    columns = torch.arange(width)
    used = columns < order.sizes[:, None]
    places = torch.where(used, (order.sizes.cumsum(0) - order.sizes)[:, None] + columns, 0)
    device = samples.weights.device
    rows = order.places[places.view(-1)].to(device)
    shuffled: Sequence[Tensor] = [
        tensor.index_select(0, rows).view(-1, width, *tensor.shape[1:]) for tensor in samples[:-1]
    ]
    return (Samples(*parts) for parts in zip(*shuffled, used.to(device, torch.float32), strict=True))
