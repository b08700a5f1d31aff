"""Tasks so small that the right value and the right action are known; they tell which part of PPO is broken."""

from __future__ import annotations

from typing import Any

import probe_envs  # noqa: F401
import pytest
import torch
from helpers import Trained, tiny_config, train


def trained(name: str, iterations: int, env_kwargs: dict[str, Any] | None = None, **settings: Any) -> Trained:
    """A short training of 4 environments x 18 steps with a learning rate that suits so small a task."""
    fixed = {
        "num_envs": 4, "rollout_steps": 18, "minibatch_size": 36, "epochs": 4, "optimizer.lr": 0.02,
        "normalize_advantages": True,
    }  # fmt: skip
    return train(tiny_config(f"probe/{name}-v0", env_kwargs=env_kwargs, **(fixed | settings)), iterations)


def test_value_of_a_constant_reward_is_that_reward() -> None:
    result = trained("ConstantReward", 20)
    assert result.value(0.0) == pytest.approx(1.0, abs=0.02)


def test_value_depends_on_the_observation() -> None:
    result = trained("RewardIsObservation", 15)
    assert result.value(1.0) == pytest.approx(1.0, abs=0.05)
    assert result.value(-1.0) == pytest.approx(-1.0, abs=0.05)
    assert result.stats[-1].explained_variance > 0.95


@pytest.mark.parametrize("gamma", [0.5, 0.9])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95])
def test_value_of_a_reward_one_step_later_is_discounted_once(gamma: float, gae_lambda: float) -> None:
    result = trained("DelayedReward", 25, gamma=gamma, gae_lambda=gae_lambda)
    assert result.value(1.0) == pytest.approx(1.0, abs=0.04)
    assert result.value(0.0) == pytest.approx(gamma, abs=0.04)


def test_the_best_of_two_actions_is_learnt_where_it_depends_on_the_observation() -> None:
    result = trained("BestAction", 15)
    assert torch.softmax(result.parameters(1.0), -1)[1] > 0.9
    assert torch.softmax(result.parameters(-1.0), -1)[0] > 0.9


def test_the_best_continuous_action_is_learnt_where_it_depends_on_the_observation() -> None:
    settings = {"env.rescale_actions": False, "model.initial_log_std": -0.5}
    result = trained("BestAction", 40, env_kwargs={"continuous": True}, **settings)
    assert result.parameters(1.0)[0].item() == pytest.approx(0.5, abs=0.15)
    assert result.parameters(-1.0)[0].item() == pytest.approx(-0.5, abs=0.15)
    assert result.parameters(1.0)[1].item() < -1.0  # and the policy has become surer of it


def test_rescaled_actions_are_learnt_in_units_of_the_range() -> None:
    """Bounds are -2 and 2: the policy's own action for 0.5 is 0.25."""
    result = trained("BestAction", 40, env_kwargs={"continuous": True}, **{"model.initial_log_std": -0.5})
    assert result.parameters(1.0)[0].item() == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95])
def test_value_under_a_time_limit_is_that_of_going_on_for_ever(gae_lambda: float) -> None:
    """Reward 1 per step and gamma 0.8: 1 / (1 - 0.8) = 5, because truncation bootstraps."""
    result = trained("Endless", 40, gamma=0.8, gae_lambda=gae_lambda)
    assert result.value(0.0) == pytest.approx(5.0, abs=0.15)


def test_value_before_a_real_end_is_only_what_comes_until_then() -> None:
    """The twin that terminates: 1, 1.8, 2.44, 2.952, 3.3616 with 1 to 5 steps to go, 2.31 on average.

    Rollouts of 18 rows hold three whole episodes and their resets, so that none is cut and bootstrapped in between.
    """
    result = trained("Endless", 40, env_kwargs={"terminates": True}, gamma=0.8, gae_lambda=1.0)
    assert result.value(0.0) == pytest.approx(2.31, abs=0.15)


def test_value_under_a_time_limit_with_scaled_rewards_is_in_units_of_the_scale() -> None:
    result = trained("Endless", 40, gamma=0.8, normalize_rewards=True)
    sums = [1, 1.8, 2.44, 2.952, 3.3616]
    deviation = torch.tensor(sums).std(correction=0).item()
    assert result.value(0.0) == pytest.approx(5.0 / deviation, rel=0.05)
