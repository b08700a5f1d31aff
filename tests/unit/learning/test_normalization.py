"""Scaling: what is counted, when it moves, and that it survives in the state."""

from __future__ import annotations

import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from helpers import make_collector, make_env, make_policy, tiny_config

from ppolab.core.moments import Moments, no_samples, sample_moments
from ppolab.learning.normalization import CLIP, RunningScale
from ppolab.training.collector import Collector

SAMPLES = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]])


def filled(enabled: bool = True) -> RunningScale:
    scale = RunningScale((2,), enabled=enabled)
    scale.merge(sample_moments(SAMPLES))
    return scale


def test_scaled_observations_have_mean_zero_and_deviation_one() -> None:
    scaled = filled().frozen()(SAMPLES.double().numpy())
    deviation = (8 / 3) ** 0.5
    np.testing.assert_allclose(scaled[:, 0], [-2 / deviation, 0, 2 / deviation], rtol=1e-5)
    assert scaled[:, 1].tolist() == [0, 0, 0]  # a constant component is no NaN
    assert scaled.dtype == np.float32


def test_scaled_observations_are_clipped() -> None:
    assert filled().frozen()(np.array([[1e9, -1e9]])).tolist() == [[CLIP, -CLIP]]


def test_switched_off_changes_nothing_but_the_type() -> None:
    scale = filled(enabled=False)
    observations = np.array([[1e6, -300.0], [0.5, 11.0]])
    assert scale.frozen()(observations).tolist() == observations.tolist()
    rewards = torch.tensor([[1e6, -300.0]])
    assert scale.scale_rewards(rewards).equal(rewards)
    assert scale.count == 0


def test_nothing_is_scaled_before_the_first_statistics() -> None:
    scale = RunningScale((2,), enabled=True)
    np.testing.assert_allclose(scale.frozen()(np.array([[1.5, -2.0]])), [[1.5, -2.0]], rtol=1e-6)
    rewards = torch.tensor([[100.0, -2.0]])
    assert RunningScale((), enabled=True).scale_rewards(rewards).equal(rewards)


def test_frozen_scaling_does_not_move_when_statistics_do() -> None:
    scale = filled()
    frozen = scale.frozen()
    before = frozen(np.array([[2.0, 9.0]]))
    scale.merge(sample_moments(1000 * torch.randn((50, 2))))
    assert frozen(np.array([[2.0, 9.0]])).tolist() == before.tolist()
    assert scale.frozen()(np.array([[2.0, 9.0]])).tolist() != before.tolist()


def test_merging_in_parts_equals_merging_at_once() -> None:
    parts = RunningScale((2,), enabled=True)
    for row in SAMPLES:
        parts.merge(sample_moments(row[None]))
    for name in ("count", "mean", "variance"):
        torch.testing.assert_close(getattr(parts.moments, name), getattr(filled().moments, name))


def test_rewards_are_divided_by_the_deviation_only() -> None:
    scale = RunningScale((), enabled=True)
    scale.merge(Moments(*(torch.tensor(x, dtype=torch.float64) for x in (10.0, 500.0, 4.0))))
    scaled = scale.scale_rewards(torch.tensor([[1.0, -6.0, 1e6]]))
    assert scaled.tolist() == [[pytest.approx(0.5), pytest.approx(-3.0), CLIP]]


def test_statistics_travel_in_the_policy_state() -> None:
    config = tiny_config("probe/Diary-v0", normalize_observations=True)
    env = make_env(config)
    policy, other = make_policy(config, env), make_policy(config, env)
    policy.observation_scale.merge(sample_moments(torch.randn((20, 3)) * 7 + 3))
    state = policy.state_dict()
    assert {f"observation_scale.{name}" for name in ("count", "mean", "variance")} <= set(state)
    other.load_state_dict(state)
    sample = np.array([[1.0, 2.0, 3.0]])
    assert other.observation_scale.frozen()(sample).tolist() == policy.observation_scale.frozen()(sample).tolist()
    assert not list(policy.observation_scale.parameters())  # nothing an optimizer could move


def test_zero_valid_rows_never_give_nan() -> None:
    scale = RunningScale((2,), enabled=True)
    scale.merge(sample_moments(torch.zeros((0, 2))))
    assert np.isfinite(scale.frozen()(np.array([[1.0, 2.0]]))).all()
    scale.merge(sample_moments(SAMPLES))
    scale.merge(no_samples((2,)))
    for name in ("count", "mean", "variance"):
        assert getattr(scale.moments, name).equal(getattr(filled().moments, name))


def test_rows_that_only_reset_never_enter_the_statistics() -> None:
    # Diary's final observation of an episode is what stands in a reset row; its step number is then 3
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": [3]}, rollout_steps=8)
    env = make_env(config)
    rollout = make_collector(config, env).collect(make_policy(config, env))
    assert rollout.valid[:, 0].tolist() == [True, True, True, False, True, True, True, False]
    assert rollout.observations[3, 0, 1] == 3.0
    assert rollout.observation_moments.count == 6 * config.num_envs
    assert rollout.observation_moments.mean[1].item() == pytest.approx(1.0)  # of 0, 1, 2
    assert rollout.return_moments.count == 6 * config.num_envs


def test_a_rollout_of_resets_only_changes_no_statistics() -> None:
    # every environment is truncated at the same step, as in HalfCheetah: the next row has no valid entry at all
    config = tiny_config("probe/Endless-v0", env_kwargs={"length": 1}, normalize_observations=True)
    env = make_env(config)
    policy = make_policy(config, env)
    collector = Collector(env, 1, 0.99, torch.Generator())  # one row per rollout
    collector.collect(policy)
    rollout = collector.collect(policy)
    assert not rollout.valid.any()
    for moments in (rollout.observation_moments, rollout.return_moments):
        assert moments.count == 0
        assert moments.mean.isfinite().all() and moments.variance.isfinite().all()
    policy.observation_scale.merge(rollout.observation_moments)
    assert policy.observation_scale.variance.tolist() == [1.0]
