"""Make one pass over samples: a gradient step per minibatch, step by step or in one call of C++ code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.losses import standardized
from ppolab.learning.gradient import Gradient
from ppolab.learning.native import AdamState, NativeUpdate, RankWork
from ppolab.learning.native.update import Steps, Stopping
from ppolab.learning.objective import ChosenRows, LossTerms, Samples, share_of_terms
from ppolab.learning.optimizer import adam_state, clip_norm, optimizer_step
from ppolab.learning.sequences import rows_of
from ppolab.runtime.cores import usable_cores
from ppolab.runtime.process_group import ProcessGroup


@dataclass(frozen=True)
class OrderOfAll:
    """The samples, or with memory the sequences, of all processes, one process after another.

    Attributes:
        places: [B of all] minibatch after minibatch. counts: how many each process has.
        length: steps of a sequence, 1 without memory.
    """

    places: Tensor
    counts: Sequence[int]
    length: int = 1


@dataclass(frozen=True)
class MinibatchOrder:
    """A partition of all processes' samples into minibatches, as one process sees it.

    Attributes:
        places: [B] which of this process's samples, minibatch after minibatch.
        sizes: [M] how many of them each minibatch has. totals: [M] the same over all processes.
        rows: with memory, where all of these are of whole sequences, the same of their rows that are experience; places
            are among the flat rows.
        of_all: what all processes have in these minibatches; None in a part of an order.
    """

    places: Tensor
    sizes: Tensor
    totals: Tensor
    rows: MinibatchOrder | None = None
    of_all: OrderOfAll | None = None

    @property
    def of_samples(self) -> MinibatchOrder:
        """The order of single samples."""
        return self.rows or self

    def split(self, size: int) -> Iterator[MinibatchOrder]:
        """Cut the order into runs of minibatches, each of about `size` samples of all processes."""
        return self.cut(self.lengths(size).tolist())

    def cut(self, lengths: list[int]) -> Iterator[MinibatchOrder]:
        """Cut the order into runs of so many minibatches."""
        if self.rows is None:
            return map(MinibatchOrder, *self._cut(lengths))
        return map(MinibatchOrder, *self._cut(lengths), map(MinibatchOrder, *self.rows._cut(lengths)))

    def lengths(self, size: int) -> Tensor:
        """Return the numbers [K] of minibatches in runs of about `size` samples of all processes."""
        count = max(1, min(len(self.totals), int(self.of_samples.totals.sum()) // size))
        return _even_sizes(len(self.totals), count)

    def _cut(self, lengths: list[int]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Return places, sizes and totals of runs of so many minibatches."""
        sizes, totals = torch.split(self.sizes, lengths), torch.split(self.totals, lengths)
        return torch.split(self.places, [int(part.sum()) for part in sizes]), sizes, totals


@dataclass(frozen=True)
class Pass:
    """One epoch that is to be made: a step per minibatch of `order`, or fewer where `stopping` ends them."""

    samples: Samples
    order: MinibatchOrder
    stopping: Stopping | None = None


Epoch = Callable[[Samples, MinibatchOrder], tuple[Tensor, Tensor]]
"""Makes one gradient step per minibatch; returns (LossTerms as columns [M, terms], norms [M] of the gradients before
clipping), both over all processes.
"""


def shuffled(owners: Tensor, rank: int, size: int, generator: torch.Generator) -> MinibatchOrder:
    """Return a random order in ceil(B / size) minibatches; equal generators draw the same one in every process.

    Args:
        owners: [B] the process that has each sample, in the order that one process would have collected them in; with
            memory [L, S], see `shared_facts`: sequences are shuffled, and their rows that are experience are counted.
    """
    if owners.ndim == 2:
        return _shuffled_sequences(owners, rank, size, generator)
    return _ordered(owners, rank, -(-len(owners) // size), torch.randperm(len(owners), generator=generator))


def _ordered(owners: Tensor, rank: int, parts: int, order: Tensor) -> MinibatchOrder:
    totals = _even_sizes(len(owners), parts)
    mine = owners == rank
    if bool(mine.all()):
        return MinibatchOrder(order, totals, totals, of_all=OrderOfAll(order, [0] * rank + [len(order)]))
    chosen = mine[order]
    before = torch.cat([torch.zeros(1, dtype=torch.int64), chosen.cumsum(0)])  # how many of mine lie before a place
    ends = totals.cumsum(0)
    sizes = before[ends] - before[ends - totals]
    return MinibatchOrder((mine.cumsum(0) - 1)[order[chosen]], sizes, totals, of_all=_order_of_all(owners, order))


def _order_of_all(owners: Tensor, order: Tensor) -> OrderOfAll:
    places, counts = _places_of_all(owners)
    return OrderOfAll(places[order], counts)


@lru_cache(maxsize=1)
def _places_of_all(owners: Tensor) -> tuple[Tensor, list[int]]:
    """Return where each sample is among those of all processes, and how many each has; all epochs of an update ask."""
    places = torch.empty_like(owners)
    places[torch.argsort(owners, stable=True)] = torch.arange(len(owners))
    return places, owners.bincount().tolist()


def _shuffled_sequences(owners: Tensor, rank: int, size: int, generator: torch.Generator) -> MinibatchOrder:
    real, owner = owners >= 0, owners.amax(0)
    drawn = torch.randperm(len(owner), generator=generator)
    order = _ordered(owner, rank, min(len(owner), -(-int(real.sum()) // size)), drawn)
    mine = real[:, owner == rank]
    which, steps = mine[:, order.places].t().nonzero(as_tuple=True)
    rows = MinibatchOrder(
        steps * mine.shape[1] + order.places[which],
        _sums(mine.sum(0)[order.places], order.sizes),
        _sums(real.sum(0)[drawn], order.totals),
    )
    of_all = order.of_all and replace(order.of_all, length=len(owners))
    return replace(order, rows=rows, of_all=of_all)


def _sums(values: Tensor, sizes: Tensor) -> Tensor:
    """Return the sum [M] of each of M runs of `values`."""
    ends = torch.cat([torch.zeros(1, dtype=values.dtype), values.cumsum(0)])[sizes.cumsum(0)]
    return ends.diff(prepend=torch.zeros(1, dtype=values.dtype))


@lru_cache(maxsize=8)
def _even_sizes(count: int, parts: int) -> Tensor:
    """Return `even_parts`, which are the same for every epoch of an update; nobody may change them."""
    return torch.tensor(even_parts(count, parts))


def even_parts(count: int, parts: int) -> list[int]:
    """Divide `count` into nearly equal parts, the larger ones first."""
    return [count // parts + (index < count % parts) for index in range(parts)]


def with_standardized_advantages(samples: Samples, order: MinibatchOrder, group: ProcessGroup) -> Samples:
    """Return `samples` whose advantages have mean 0 and deviation 1 in every minibatch, over all processes."""
    order = order.of_samples
    places = order.places.to(samples.advantages.device)
    groups = torch.repeat_interleave(order.sizes).to(places.device)
    counts = order.totals.to(places.device)
    advantages = torch.zeros_like(samples.advantages)
    advantages[places] = standardized(samples.advantages[places], groups, counts, group.all_reduce)
    return samples._replace(advantages=advantages)


def stepwise_epoch(
    gradient: Gradient, vector: torch.nn.Parameter, optimizer: torch.optim.Optimizer, config: Config,
    group: ProcessGroup, *, stacks: bool = False,
) -> Epoch:  # fmt: skip
    """Return an epoch for any gradient, any optimizer and any number of processes.

    Args:
        stacks: the gradient reads images that are not put together.
    """
    step = optimizer_step(optimizer, vector)

    def one_step(batch: Samples, share: float) -> tuple[Tensor, Tensor]:  # whose tensors are gone before the next
        if group.size == 1:
            result, terms = gradient(vector.detach(), *batch)
        else:
            result, terms = _over_all(group, gradient, vector.detach(), batch, share)
        shortened, norm = clip_norm(result, config.max_grad_norm)
        step(shortened)
        return terms, norm

    def epoch(samples: Samples, order: MinibatchOrder) -> tuple[Tensor, Tensor]:
        all_terms, norms = [], []
        shares = (order.of_samples.sizes / order.of_samples.totals).tolist()
        if samples.states is None:
            batches = minibatches(samples, order, config.minibatch_size, stacks=stacks)
        else:
            batches = minibatches_of_sequences(samples, order)
        for share in shares:
            terms, norm = one_step(next(batches), share)
            all_terms.append(terms)
            norms.append(norm)
        return torch.stack(all_terms), torch.stack(norms)

    return epoch


def steps_in_parts(run: Epoch, vector: Tensor, each: Pass) -> Steps:
    """Make the steps of a pass by `run`, which changes the parameters `vector` [P] in place."""
    samples, stopping = each.samples, each.stopping
    if stopping is None:
        terms, norms = run(samples, each.order)
        return Steps(terms, norms, stopped=False, last=len(terms), rolled_back=0)
    results: list[tuple[Tensor, Tensor]] = []
    stopped, rolled_back = False, 0
    for part in each.order.cut(stopping.parts.tolist()):
        before = vector.clone()
        results.append(run(samples, part))
        kl = mean_kl(results[-1][0])
        if stopped := kl > stopping.limit:
            if kl > stopping.broken:
                vector.copy_(before)
                rolled_back = len(part.totals)
            break
    terms, norms = (torch.cat(columns) for columns in zip(*results, strict=True))
    return Steps(terms, norms, stopped, len(results[-1][0]), rolled_back)


def mean_kl(terms: Tensor) -> float:
    """Return the mean KL of the samples of some steps, with LossTerms as columns [M, terms]."""
    sums = LossTerms(*terms.sum(0).tolist())
    return float(sums.kl_sum / sums.samples)


def _over_all(
    group: ProcessGroup, gradient: Gradient, vector: Tensor, batch: Samples, share: float
) -> tuple[Tensor, Tensor]:
    """Return gradient and terms of a minibatch of which this process has `share`; one message carries both."""
    message = vector.new_zeros(len(vector) + len(LossTerms._fields))
    if share > 0:
        result, terms = gradient(vector, *batch)
        message = torch.cat([result * share, share_of_terms(terms, share).to(result.dtype)])
    group.all_reduce(message)
    return message[: len(vector)], message[len(vector) :]


def native_threads(config: Config) -> int:
    """Return how many threads the C++ code may use."""
    return config.trainer.threads or min(2, usable_cores())


class NativeEpoch:
    """Make the same epoch in C++, for Adam and AdamW, whose state stays in `optimizer`.

    Args:
        work: what several processes on one machine share epochs with.
    """

    def __init__(
        self,
        native: NativeUpdate,
        vector: torch.nn.Parameter,
        optimizer: torch.optim.Optimizer,
        config: Config,
        work: RankWork | None = None,
    ) -> None:
        self._native = native
        self._vector = vector
        self._optimizer = optimizer
        self._config = config
        self._work = work
        self._threads = native_threads(config)

    def __call__(self, samples: Samples, order: MinibatchOrder) -> tuple[Tensor, Tensor]:
        """Make a step per minibatch; see `Epoch`."""
        steps = self.steps(Pass(samples, order))
        return steps.terms, steps.norms

    def steps(self, each: Pass) -> Steps:
        """Make the steps of a pass."""
        samples, order = each.samples, each.order
        state = _adam_state(self._optimizer, self._vector)
        places, sizes, ranks = order.places, order.sizes, None
        if self._work is not None:
            assert order.of_all is not None, "an order for several processes tells what all of them have"
            samples = self._work.samples_of_all(samples, order.of_all.counts, order.of_all.length)
            places, sizes, ranks = order.of_all.places, order.totals, self._work.structure()
        steps = self._native.epoch(
            samples,
            places,
            sizes,
            state,
            self._config.max_grad_norm,
            self._threads,
            each.stopping,
            ranks,
        )
        self._optimizer.state[self._vector]["step"] += len(steps.terms)
        return steps


def _adam_state(optimizer: torch.optim.Optimizer, vector: torch.nn.Parameter) -> AdamState:
    """Return Adam's state and settings."""
    group, state = optimizer.param_groups[0], adam_state(optimizer, vector)
    return AdamState(
        state["exp_avg"], state["exp_avg_sq"], int(state["step"]), float(group["lr"]), group["betas"], group["eps"],
        group["weight_decay"], group["decoupled_weight_decay"], group["maximize"],
    )  # fmt: skip


def minibatches(samples: Samples, order: MinibatchOrder, width: int, *, stacks: bool = False) -> Iterator[Samples]:
    """Return this process's samples of every minibatch; with `stacks`, images that consist of single channels as these.

    All have `width` rows, because a compiled function wants one shape; those that fill them up come last and weigh 0.
    """
    columns = torch.arange(width)
    used = columns < order.sizes[:, None]
    places = torch.where(used, (order.sizes.cumsum(0) - order.sizes)[:, None] + columns, 0)
    device = samples.weights.device
    rows = order.places[places.view(-1)].to(device)
    others = [tensor.index_select(0, rows).view(-1, width, *tensor.shape[1:]) for tensor in _of_rows(samples)]
    others.append(used.to(device, torch.float32))
    for index, part in enumerate(torch.split(rows, width)):  # images are large: no two minibatches of them are kept
        seen = samples.observations
        chosen = seen.chosen(part) if stacks and isinstance(seen, ChosenRows) else seen.index_select(0, part)
        yield Samples(chosen, *(column[index] for column in others))


def minibatches_of_sequences(samples: Samples, order: MinibatchOrder) -> Iterator[Samples]:
    """Return this process's sequences of every minibatch, as samples of whole sequences."""
    assert samples.states is not None and samples.starts is not None
    count = samples.states.shape[1]
    length = len(samples.weights) // max(1, count)
    places = order.places.to(samples.weights.device)
    chosen = [rows_of(part, length, count) for part in torch.split(places, order.sizes.tolist())]
    rows, sizes = torch.cat(chosen), [len(part) for part in chosen]
    observations = (samples.observations.index_select(0, part) for part in chosen)  # images are large
    columns = [
        torch.split(column.index_select(0, rows), sizes)
        for column in (*_of_rows(samples), samples.weights, samples.starts)
    ]
    states = torch.split(samples.states.index_select(1, places), order.sizes.tolist(), dim=1)
    for seen, own, *parts in zip(observations, states, *columns, strict=True):
        *others, starts = parts
        yield Samples(seen, *others)._replace(states=own.contiguous(), starts=starts)


def _of_rows(samples: Samples) -> Sequence[Tensor]:
    """Return the columns between observations and weights."""
    return samples[1 : Samples._fields.index("weights")]  # type: ignore[return-value]
