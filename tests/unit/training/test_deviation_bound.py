"""The bound of the deviation of continuous actions, which falls over a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import probe_envs  # noqa: F401
import pytest
import torch
from gradients import needs_compiler
from helpers import make_env
from modules import trained_module, whole_and_resumed
from small_runs import run_small, small_config
from torch import Tensor

from ppolab.agents.policy import build_policy
from ppolab.config.algorithms import algorithm_names
from ppolab.errors import ConfigError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.training.build import build_module
from ppolab.training.module import OnPolicyModule
from ppolab.training.warm_start import WarmStart

FINAL = "exploration.final_log_std"
FAR: dict[str, Any] = {FINAL: -3.0}


def log_std_of(module: OnPolicyModule) -> Tensor:
    assert module.policy.log_std is not None
    return module.policy.log_std.detach()


def bound_at(steps: int, total: int, final: float, initial: float = -0.5) -> float:
    return initial + (final - initial) * min(1.0, steps / total)


@pytest.mark.parametrize("name", sorted(algorithm_names()))
def test_after_every_iteration_the_deviation_is_at_most_the_bound(name: str) -> None:
    config = small_config(algorithm=name, entropy_coef=1.0, total_steps=600, **FAR)
    for iterations in (0, 1, 4):
        module = trained_module(config, iterations)
        bound = bound_at(module.steps, 600, -3.0)
        assert module.steps > 0
        assert log_std_of(module).max().item() == pytest.approx(bound, abs=1e-6)  # all would be larger


def test_a_deviation_below_the_bound_is_left_alone() -> None:
    module = trained_module(small_config(**{FINAL: -0.5}), 0)
    with torch.no_grad():
        log_std_of(module).fill_(-2.0)
    before = log_std_of(module).clone()
    module.start(module.state(barrier=False))
    assert torch.equal(log_std_of(module), before)


def test_the_rollout_is_drawn_with_the_bounded_deviation() -> None:
    module = trained_module(small_config(total_steps=600, **FAR), 2)
    bounded = log_std_of(module).clone()
    env = make_env(module.config)
    policy = build_policy(module.config, env)
    other = build_module(module.config, env, policy)
    other.start(module.state(barrier=True))
    rollout = other.collector.collect(other.policy, other.native)
    assert torch.equal(rollout.parameters[..., -1:], bounded.expand(16, 4, 1))
    expected = policy.distribution.log_prob(rollout.parameters, rollout.actions)
    assert torch.equal(rollout.log_probs, expected)
    env.close()


def test_without_it_nothing_is_bounded() -> None:
    module = trained_module(small_config(entropy_coef=1.0), 3)
    assert log_std_of(module).min() > -0.5


def test_checkpoints_hold_the_bounded_deviation(tmp_path: Path) -> None:
    result = run_small(tmp_path, entropy_coef=1.0, **{"logger.video": False} | FAR)
    state = load_checkpoint(tmp_path / "checkpoints/last.ckpt").module
    assert result.steps >= 640 and state["policy"]["log_std"].tolist() == [-3.0]
    assert result.metrics["policy/std"] == pytest.approx(math.exp(-3.0))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"algorithm": "trpo"},
        {"env.id": "probe/Orders-v0"},
        {"model.memory": "gru"},
        pytest.param({"env.backend": "envpool", "compile": "true"}, marks=needs_compiler),
    ],
)
def test_a_run_goes_on_bit_for_bit(settings: dict[str, Any]) -> None:
    whole, resumed = whole_and_resumed(small_config(**{"total_steps": 300, **FAR, **settings}))
    assert whole.equal(resumed)


def test_a_policy_that_is_taken_over_keeps_to_it_from_the_start() -> None:
    source = trained_module(small_config(**{"model.initial_log_std": 1.0}), 1)
    config = small_config(normalize_rewards=False, normalize_observations=False, **FAR)
    env = make_env(config)
    module = build_module(config, env, build_policy(config, env))
    module.start(None, WarmStart(source.policy.state_dict(), None, {}))
    assert module.steps == 0 and log_std_of(module).tolist() == [-0.5]
    env.close()


def test_a_longer_run_goes_on_below_a_bound_of_its_own_length() -> None:
    module = trained_module(small_config(total_steps=200, **FAR), 2)
    assert log_std_of(module).max() < -2.0
    state = module.state(barrier=True)
    longer = small_config(total_steps=100_000, entropy_coef=1.0, **FAR)
    env = make_env(longer)
    other = build_module(longer, env, build_policy(longer, env))
    other.start(state)
    assert torch.equal(log_std_of(other), log_std_of(module))
    other.training_step(None, 2)
    assert (log_std_of(other) > log_std_of(module)).all()
    env.close()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deviations of the network": (
        {"model.state_dependent_std": True, FINAL: -2.0},
        r"exploration.final_log_std=-2: bounds deviations that are parameters, .* leave one of the two out",
    ),
    "rises": (
        {FINAL: 0.25},
        r"exploration.final_log_std=0.25: must be at most model.initial_log_std=-0.5, from which the bound falls",
    ),
    "out of range": ({FINAL: -11.0}, r"exploration.final_log_std=-11.0: must lie between -10 and 10"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        small_config(**settings)


def test_an_environment_without_continuous_actions_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    message = "exploration.final_log_std=-2: is of continuous actions, and CartPole-v1 has none; leave it out"
    with pytest.raises(ConfigError, match=message):
        run_small(tmp_path, **{"env.id": "CartPole-v1", FINAL: -2.0})
    assert not (tmp_path / "config.yaml").exists()


def test_the_deviation_may_be_held_at_its_first_value() -> None:
    held = trained_module(small_config(entropy_coef=1.0, **{FINAL: -0.5}), 2)
    assert log_std_of(held).tolist() == [-0.5]
