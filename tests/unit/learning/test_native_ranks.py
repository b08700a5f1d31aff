"""Epochs that several ranks share in one memory: here the ranks are threads of one process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box
from helpers import drawn, ppo_objective, tiny_config
from torch import Tensor

from ppolab.core.observation_rows import RowLayout
from ppolab.errors import ProcessError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.epoch import NativeEpoch, Pass, shuffled
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.native import NativeUpdate, native_policy
from ppolab.learning.native.library import compiler
from ppolab.learning.native.ranks import RankWork
from ppolab.learning.native.update import Stopping
from ppolab.learning.objective import LossTerms, Samples, value_objective
from ppolab.learning.optimizer import adam_state, make_optimizer

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
INPUTS, ROWS, LENGTH, MINIBATCH = 5, 47, 4, 10
NO_PROCESS = 2**22 + 1
"""Linux gives no process such a number."""
KINDS: dict[str, dict[str, Any]] = {
    "two networks": {},
    "one network": {"model.trunk": "shared"},
    "memory": {"model.memory": "gru", "model.memory_size": 16},
    "one network with memory": {"model.memory": "lstm", "model.memory_size": 16, "model.trunk": "shared"},
}


@dataclass(frozen=True)
class Result:
    """What an epoch leaves."""

    parameters: Tensor
    mean: Tensor
    square: Tensor
    terms: Tensor
    norms: Tensor
    rolled_back: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.parameters, self.mean, self.square, self.terms, self.norms]


class Learner:
    """A policy, the same every time, and epochs on what rank `rank` has of the samples."""

    def __init__(self, owners: Tensor, rank: int = 0, work: RankWork | None = None, kind: str = "two networks") -> None:
        """`owners`: the rank that has each sample, or with memory each row of a sequence."""
        settings = {"model.hidden_sizes": [8], "sequence_length": LENGTH, **KINDS[kind]}
        self._config = tiny_config("probe/Diary-v0", **settings)
        torch.manual_seed(0)
        actions = action_distribution(Box(-1, 1, (2,)))
        self._policy = ActorCritic(RowLayout(INPUTS), actions, self._config.model, normalize=False)
        self._flat = flatten_parameters(self._policy)
        self._owners, self._rank, self._work = owners, rank, work
        self._optimizer = make_optimizer(self._config, self._flat)
        self._order = torch.Generator().manual_seed(3)
        self._samples = samples_of(self._policy, owners)
        self._mine = part_of(self._samples, owners, rank)
        self._run = self._epoch(ppo_objective(self._policy, self._config).native)

    def _epoch(self, objective: Any) -> NativeEpoch:
        native = native_policy(self._policy, self._flat)
        assert native is not None
        update = NativeUpdate(native, objective)
        return NativeEpoch(update, self._flat.vector, self._optimizer, self._config, self._work)

    @property
    def parameter_count(self) -> int:
        return len(self._flat.vector)

    def fitting_values_alone(self) -> Learner:
        self._run = self._epoch(value_objective(1.0, None).native)
        return self

    def update(self, stopping: Stopping | None = None) -> Result:
        order = shuffled(self._owners, self._rank, MINIBATCH, self._order)
        steps = self._run.steps(Pass(self._mine, order, stopping))
        state = adam_state(self._optimizer, self._flat.vector)
        kept = (self._flat.vector.detach(), state["exp_avg"], state["exp_avg_sq"], steps.terms, steps.norms)
        return Result(*(tensor.clone() for tensor in kept), steps.rolled_back)


def samples_of(policy: ActorCritic, owners: Tensor) -> Samples:
    rng = torch.Generator().manual_seed(1)
    rows = owners.numel()
    observations = torch.randn((rows, INPUTS), generator=rng)
    states = starts = None
    if policy.has_memory:
        states = torch.randn((policy.no_memories(1).shape[0], owners.shape[1], 16), generator=rng)
        starts = torch.rand(rows, generator=rng) < 0.2
    seen = (observations,) if states is None else (observations, states, starts)
    with torch.no_grad():
        parameters = policy(*seen)[0]
        actions = drawn(policy.distribution, parameters, 2)
        log_probs = policy.distribution.log_prob(parameters, actions) + 0.3 * torch.randn(rows, generator=rng)
    others = torch.randn((3, rows), generator=rng)
    weights = (owners.reshape(-1) >= 0).float()
    return Samples(observations, actions, parameters, log_probs, *others, weights, states, starts)


def part_of(samples: Samples, owners: Tensor, rank: int) -> Samples:
    """Return the samples, or the sequences, of one rank."""
    if samples.states is None:
        return Samples(*(column[owners == rank] for column in samples if column is not None))
    mine = owners.amax(0) == rank
    columns = {
        name: column.unflatten(0, (LENGTH, -1))[:, mine].flatten(0, 1)
        for name, column in samples._asdict().items()
        if name != "states" and column is not None
    }
    return samples._replace(**columns, states=samples.states[:, mine].contiguous())


def owners_of(kind: str, ranks: int) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    if "model.memory" not in KINDS[kind]:
        return torch.randint(ranks, (ROWS,), generator=rng)
    owners = torch.randint(ranks, (ROWS,), generator=rng).expand(LENGTH, ROWS).clone()
    gone = torch.rand((LENGTH, ROWS), generator=rng) < 0.2
    gone[0] = False
    owners[gone] = -1  # no experience
    return owners


def shared_by(ranks: int) -> list[Callable[[int], mmap.mmap]]:
    """Return a function for each rank; what they return at their n-th call is the same memory."""
    given: list[mmap.mmap] = []
    calls = [0] * ranks

    def function_of(rank: int) -> Callable[[int], mmap.mmap]:
        def shared(size: int) -> mmap.mmap:
            if calls[rank] == len(given):
                given.append(mmap.mmap(-1, size))
            calls[rank] += 1
            assert len(given[calls[rank] - 1]) == size
            return given[calls[rank] - 1]

        return shared

    return [function_of(rank) for rank in range(ranks)]


def learners(ranks: int, kind: str = "two networks", owners: Tensor | None = None) -> list[Learner]:
    owners = owners_of(kind, ranks) if owners is None else owners
    count = Learner(owners, kind=kind).parameter_count
    work = [RankWork(rank, ranks, count, shared, os.getpid()) for rank, shared in enumerate(shared_by(ranks))]
    return [Learner(owners, rank, each, kind) for rank, each in enumerate(work)]


def alone(kind: str = "two networks", owners: Tensor | None = None) -> Learner:
    """Return one process that has all samples of `learners`."""
    owners = owners_of(kind, 2) if owners is None else owners
    return Learner(owners.clamp(max=0), kind=kind)


def updated(ranks: list[Learner], stopping: Stopping | None = None) -> list[Result]:
    """Return what every rank has after an epoch that all make at once."""
    with ThreadPoolExecutor(len(ranks)) as threads:
        return list(threads.map(lambda learner: learner.update(stopping), ranks))


def assert_equal(one: Result, other: Result) -> None:
    for part, theirs in zip(one.tensors, other.tensors, strict=True):
        assert torch.equal(part, theirs)


@pytest.mark.parametrize("kind", ["two networks", "memory"])
def test_two_ranks_end_up_with_the_bits_of_one_process(kind: str) -> None:
    """Each has a network of its own, on whole minibatches."""
    ranks, one = learners(2, kind), alone(kind)
    for _ in range(3):
        expected = one.update()
        for each in updated(ranks):
            assert_equal(each, expected)
    assert not torch.equal(expected.parameters, Learner(owners_of(kind, 2), kind=kind)._flat.vector)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_any_number_of_ranks_agrees_to_the_last_bit_and_makes_the_steps_of_one_process(kind: str, count: int) -> None:
    owners = owners_of(kind, count)
    ranks, one = learners(count, kind, owners), alone(kind, owners)
    for _ in range(2):
        results, expected = updated(ranks), one.update()
        for each in results:
            assert_equal(each, results[0])
        for part, of_one in zip(results[0].tensors, expected.tensors, strict=True):
            torch.testing.assert_close(part, of_one, rtol=1e-4, atol=1e-5)


def test_more_ranks_than_samples_of_a_minibatch() -> None:
    owners = torch.arange(12)
    results, expected = updated(learners(12, owners=owners)), alone(owners=owners).update()
    for each in results:
        assert_equal(each, results[0])
    torch.testing.assert_close(results[0].parameters, expected.parameters, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("owner", [0, 1, 2])
def test_one_rank_has_all_samples(owner: int) -> None:
    owners = torch.full((ROWS,), owner)
    results = updated(learners(3, owners=owners))
    for each in results:
        assert_equal(each, results[0])
    expected = alone(owners=torch.zeros(ROWS, dtype=torch.int64)).update()
    torch.testing.assert_close(results[0].parameters, expected.parameters, rtol=1e-4, atol=1e-5)


def test_all_ranks_fit_the_value_function_where_it_is_fitted_alone() -> None:
    owners = owners_of("two networks", 3)
    ranks = [each.fitting_values_alone() for each in learners(3, owners=owners)]
    results, expected = updated(ranks), alone(owners=owners).fitting_values_alone().update()
    for each in results:
        assert_equal(each, results[0])
    for part, of_one in zip(results[0].tensors, expected.tensors, strict=True):
        torch.testing.assert_close(part, of_one, rtol=1e-4, atol=1e-5)


def test_more_samples_than_before_get_a_larger_memory() -> None:
    ranks, one = learners(2), alone()
    updated(ranks)
    one.update()
    many = torch.arange(40 * ROWS) % 2
    grown = [Learner(many, rank, each._work) for rank, each in enumerate(ranks)]
    expected = Learner(torch.zeros_like(many)).update()
    for each in updated(grown):
        assert_equal(each, expected)


def test_ranks_stop_at_the_same_step_by_the_kl_of_all_and_go_on_in_the_next_epoch() -> None:
    whole = alone().update()
    found = LossTerms(*whole.terms[:2].sum(0).tolist())
    kl = float(found.kl_sum / found.samples)
    assert kl > 1e-6
    parts = torch.tensor([2, 3])
    for limit, broken, steps in ((kl - 1e-6, 9.0, 2), (kl + 1e-6, 9.0, 5), (kl - 1e-6, kl - 1e-6, 2)):
        stopping = Stopping(parts, limit, broken)
        one, ranks = alone(), learners(2)
        for _ in range(2):
            expected = one.update(stopping)
            for each in updated(ranks, stopping):
                assert_equal(each, expected)
                assert each.rolled_back == expected.rolled_back
        first = alone().update(stopping)
        assert len(first.terms) == steps and first.rolled_back == (2 if broken < kl else 0)


def test_a_rank_whose_process_has_ended_is_not_waited_for() -> None:
    owners = owners_of("two networks", 2)
    count = Learner(owners).parameter_count
    own, gone = shared_by(2)
    RankWork(1, 2, count, gone, NO_PROCESS)
    left = Learner(owners, 0, RankWork(0, 2, count, own, os.getpid()))
    with pytest.raises(ProcessError, match="another process of this run is gone"):
        left.update()
