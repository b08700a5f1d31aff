"""Gradients of several ranks, added up in memory that they share: here the ranks are threads of one process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from gymnasium.spaces import Box
from helpers import drawn, ppo_objective, tiny_config
from torch import Tensor

from ppolab.core.observation_rows import RowLayout
from ppolab.errors import ProcessError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.epoch import MinibatchOrder, NativeEpoch, Pass
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.native import NativeUpdate, native_policy
from ppolab.learning.native.library import compiler
from ppolab.learning.native.ranks import RankSums, bytes_of
from ppolab.learning.native.update import Stopping
from ppolab.learning.objective import LossTerms, Samples
from ppolab.learning.optimizer import make_optimizer

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
INPUTS, ROWS = 5, 40
NO_PROCESS = 2**22 + 1
"""Linux gives no process such a number."""


class Learner:
    """A policy, which is the same every time, and an epoch on its own samples."""

    def __init__(self, owned: list[list[int]], sums: tuple[RankSums, Tensor] | None = None) -> None:
        """`owned`: which samples of each minibatch; `sums`: with the sizes of the minibatches of all ranks."""
        config = tiny_config("probe/Diary-v0")
        torch.manual_seed(0)
        policy = ActorCritic(RowLayout(INPUTS), action_distribution(Box(-1, 1, (2,))), config.model, normalize=False)
        flat, objective = flatten_parameters(policy), ppo_objective(policy, config).native
        native = native_policy(policy, flat)
        assert native is not None and objective is not None
        sizes = torch.tensor([len(part) for part in owned])
        places = torch.tensor([place for part in owned for place in part], dtype=torch.int64)
        self._order = MinibatchOrder(places, sizes, sizes if sums is None else sums[1])
        self._samples = samples_of(policy)
        optimizer, update = make_optimizer(config, flat), NativeUpdate(native, objective)
        self._epoch = NativeEpoch(update, flat.vector, optimizer, config, None if sums is None else sums[0])
        self.parameters = flat.vector.detach()

    def update(self, stopping: Stopping | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Make the epoch; return parameters, terms and norms."""
        steps = self._epoch.steps(Pass(self._samples, self._order, stopping))
        return self.parameters.clone(), steps.terms, steps.norms


def updated(
    owned: list[list[list[int]]], sums: list[RankSums], totals: Tensor, stopping: Stopping | None = None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What every rank has after an epoch that all make at once."""
    learners = [Learner(mine, (own, totals)) for mine, own in zip(owned, sums, strict=True)]
    with ThreadPoolExecutor(len(learners)) as threads:
        return list(threads.map(lambda learner: learner.update(stopping), learners))


def samples_of(policy: ActorCritic) -> Samples:
    rng = torch.Generator().manual_seed(1)
    observations = torch.randn((ROWS, INPUTS), generator=rng)
    with torch.no_grad():
        parameters = policy(observations)[0]
        actions = drawn(policy.distribution, parameters, 2)
        log_probs = policy.distribution.log_prob(parameters, actions) + 0.3 * torch.randn(ROWS, generator=rng)
    return Samples(
        observations, actions, parameters, log_probs, *torch.randn((3, ROWS), generator=rng), torch.ones(ROWS)
    )


def sums_of_ranks(size: int) -> list[RankSums]:
    count = len(Learner([[0]]).parameters)
    memory = bytearray(bytes_of(size, count))
    return [RankSums(rank, size, count, memory, os.getpid()) for rank in range(size)]


def test_three_ranks_make_the_steps_of_one_and_agree_to_the_last_bit() -> None:
    all_samples = [list(range(8)), list(range(8, 20)), list(range(20, 30)), list(range(30, 40))]
    owned = [  # the last rank has nothing of the second minibatch
        [[0, 1, 2], [8, 9, 10, 11, 12, 13], [20], [30, 31, 32]],
        [[3], [14, 15, 16, 17, 18, 19], [21, 22, 23, 24], [33, 34, 35, 36, 37]],
        [[4, 5, 6, 7], [], [25, 26, 27, 28, 29], [38, 39]],
    ]
    ranks = updated(owned, sums_of_ranks(3), torch.tensor([8, 12, 10, 10]))
    alone = Learner(all_samples).update()
    for each in ranks:
        for part, of_first, of_alone in zip(each, ranks[0], alone, strict=True):
            assert torch.equal(part, of_first)
            torch.testing.assert_close(part, of_alone, rtol=1e-5, atol=1e-6)
    assert ranks[0][1][:, -1].tolist() == [8, 12, 10, 10], "samples of each minibatch"


def test_a_second_epoch_goes_on_in_the_same_memory() -> None:
    owned, totals, sums = [[[0, 1], [2, 3], [4, 5]], [[6], [7], [8]]], torch.tensor([3, 3, 3]), sums_of_ranks(2)
    first, second = updated(owned, sums, totals), updated(owned, sums, totals)
    for of_rank in (*first, *second):
        assert torch.equal(of_rank[0], first[0][0])


def test_ranks_stop_at_the_same_step_by_the_kl_of_all_and_go_on_in_the_next_epoch() -> None:
    owned, totals, sums = [[[0, 1], [2, 3], [4, 5]], [[6], [7], [8]]], torch.tensor([3, 3, 3]), sums_of_ranks(2)
    whole = updated(owned, sums, totals)[0]
    found = LossTerms(*whole[1][:2].sum(0).tolist())
    kl = float(found.kl_sum / found.samples)
    assert kl > 1e-6
    parts = torch.tensor([2, 1])
    for limit, steps in ((kl - 1e-6, 2), (kl + 1e-6, 3)):
        for _, terms, norms in updated(owned, sums, totals, Stopping(parts, limit, broken=9.0)):
            assert torch.equal(terms, whole[1][:steps])
            assert torch.equal(norms, whole[2][:steps])


def test_a_rank_whose_process_has_ended_is_not_waited_for() -> None:
    count = len(Learner([[0]]).parameters)
    memory = bytearray(bytes_of(2, count))
    RankSums(1, 2, count, memory, NO_PROCESS)
    left = Learner([[0, 1]], (RankSums(0, 2, count, memory, os.getpid()), torch.tensor([3])))
    with pytest.raises(ProcessError, match="another process of this run is gone"):
        left.update()
