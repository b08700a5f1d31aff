"""Advantages, episode sums and early stopping in C++ against Python, bit for bit; and what two threads share."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import make_context, random_rollout, tiny_config

from ppolab.config.schema import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.algorithms.ppo_clip import clipping
from ppolab.learning.episode_statistics import EpisodeStatistics
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.learner import Learner
from ppolab.learning.native import NativePolicy
from ppolab.learning.native.library import library_problem
from ppolab.learning.native.policy import Outcomes
from ppolab.learning.rollout import Rollout

pytestmark = pytest.mark.skipif(library_problem() is not None, reason="no C++ compiler here")
INPUTS = 3


def made(**settings) -> tuple[Config, ActorCritic]:
    config = tiny_config("CartPole-v1", **settings)
    torch.manual_seed(1)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(spaces.Discrete(3)), config.model, normalize=False)
    return config, policy


def native(threads: int = 1) -> tuple[ActorCritic, NativePolicy]:
    _, policy = made(**{"model.hidden_sizes": [32, 32]})
    return policy, NativePolicy(policy, flatten_parameters(policy), threads)


def outcomes(rollout: Rollout) -> Outcomes:
    rows = rollout.valid.view(-1).nonzero().squeeze(-1)
    return Outcomes(rollout.rewards, rollout.terminated, rollout.truncated, 0.99, 0.95, rows)


@pytest.mark.parametrize(("steps", "envs"), [(1, 1), (2, 3), (7, 5), (64, 32), (65, 4), (128, 1)])
def test_advantages_equal_pytorch_s(steps: int, envs: int) -> None:
    policy, ours = native()
    rollout = random_rollout(policy, INPUTS, steps=steps, envs=envs, values=False)
    of = outcomes(rollout)
    expected = generalized_advantages(
        rollout.rewards, rollout.values, rollout.terminated, rollout.truncated, gamma=0.99, gae_lambda=0.95
    )
    advantages, returns = ours.advantages(of, values=rollout.values, observations=rollout.observations)
    assert advantages.equal(expected.view(-1)[of.rows])
    assert returns.equal((expected + rollout.values[:-1]).view(-1)[of.rows])


def test_a_short_rollout_has_the_advantages_of_the_equation() -> None:
    _, ours = native()
    flags = torch.tensor([[False, False], [False, True], [True, False]])
    of = Outcomes(
        torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), flags, flags.flip(1) & ~flags, 0.5, 0.5, torch.arange(6)
    )
    values = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    advantages, returns = ours.advantages(of, values=values, observations=torch.empty(4, 2, INPUTS))
    # deltas: 1 + 1 - 1, 2 + 1 - 1; 3 + 2 - 2 and truncated, 4 - 2; 5 - 4, 6 + 16 - 8 and truncated
    assert advantages.tolist() == [1 + 3 / 4, 2 + 2 / 4, 3.0, 2.0, 1.0, 14.0]
    assert returns.tolist() == [1.75 + 1, 2.5 + 1, 5.0, 4.0, 5.0, 22.0]


def test_values_are_those_of_the_parameters_as_they_are_now() -> None:
    policy, ours = native()
    rollout = random_rollout(policy, INPUTS, steps=16)
    with torch.no_grad():
        policy.value_head.bias += 2.0
    of = outcomes(rollout)
    recomputed = ours.advantages(of, values=None, observations=rollout.observations)
    given = ours.advantages(of, values=ours.values(rollout.observations), observations=rollout.observations)
    assert recomputed[0].equal(given[0]) and recomputed[1].equal(given[1])
    assert not recomputed[0].equal(ours.advantages(of, values=rollout.values, observations=rollout.observations)[0])


@pytest.mark.parametrize("rows", [1, 511, 512, 1000, 2113])
def test_two_threads_compute_what_one_does(rows: int) -> None:
    (_, one), (_, two) = native(1), native(2)
    observations = torch.randn((rows, INPUTS), generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(one(observations), two(observations), strict=True):
        assert ours.equal(theirs)


def test_several_threads_of_python_may_ask_at_once() -> None:
    observations = torch.randn((2000, INPUTS), generator=torch.Generator().manual_seed(0))
    policies = [native(2)[1] for _ in range(4)]
    expected = native(1)[1].values(observations)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert all(each.equal(expected) for each in pool.map(lambda policy: policy.values(observations), policies))


def values_in_another_process(observations: torch.Tensor) -> list[float]:
    return native(2)[1].values(observations).tolist()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_has_a_second_thread_too() -> None:
    observations = torch.randn((600, INPUTS), generator=torch.Generator().manual_seed(0))
    expected = values_in_another_process(observations)  # so that this process has one already
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(values_in_another_process, (observations,)).get(60) == expected


def test_episodes_are_summed_as_in_python() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = EpisodeStatistics(5, 0.97), EpisodeStatistics(5, 0.97)
    for _ in range(3):
        rewards, ended = generator.normal(size=(40, 5)), generator.random((40, 5)) < 0.1
        valid = generator.random((40, 5)) < 0.9
        discounted, episodes = ours.add(rewards, ended, valid, in_native=True)
        expected = theirs.add(rewards, ended, valid)
        assert discounted.tobytes() == expected[0].tobytes() and episodes == expected[1] and len(episodes) > 10
        assert {key: each.tolist() for key, each in ours.state().items()} == {
            key: each.tolist() for key, each in theirs.state().items()
        }


@pytest.mark.parametrize("target", [None, 1e9, 0.02, 1e-3, 1e-9], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_epoch_that_may_end_early_is_the_same_in_one_call(
    target: float | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other learner calls C++ once for each part of an epoch, and looks at the KL in Python."""
    monkeypatch.setattr("ppolab.learning.learner.KL_SAMPLES", 32)
    results = []
    for in_parts in (False, True):
        config, policy = made(
            rollout_steps=32, target_kl=target, epochs=4, **{"optimizer.lr": 0.02, "trainer.threads": threads}
        )
        context = make_context(policy, config, native=True)
        learner = Learner(context, clipping(config.clip))
        if in_parts:
            run = learner._run_epoch
            learner._run_epoch = lambda samples, order, run=run: run(samples, order)
        rollout = random_rollout(policy, INPUTS, steps=32)
        stats = [asdict(learner.update(rollout, rollout.rewards)) for _ in range(2)]
        adam = context.optimizer.state[context.flat.vector]
        results.append([stats, context.flat.vector.tolist(), adam["step"].item(), adam["exp_avg"].tolist()])
    assert results[0] == results[1]
