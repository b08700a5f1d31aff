"""Training on a GPU: the same numbers to rounding, and everything where it belongs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from helpers import (
    make_config,
    make_context,
    make_env,
    make_learner,
    ppo_objective,
    random_rollout,
    tiny_config,
)
from resumed_runs import assert_the_same_run, killed_run, whole_run

from commands import evaluate, run_folders, train
from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.experience import Experience
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import compiled_on_first_call, whole_gradient
from ppolab.learning.native import native_policy
from ppolab.learning.rollout import Rollout
from ppolab.records.checkpoint import load_checkpoint
from ppolab.training.collector import Collector
from ppolab.training.run import run

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
INPUTS = 3
CASES: dict[str, dict[str, Any]] = {
    "ppo_penalty": {"algorithm": "ppo_penalty"},
    "unclipped": {"algorithm": "unclipped"},
    "vpg": {"algorithm": "vpg"},
    "a2c": {"algorithm": "a2c"},
    "npg": {"algorithm": "npg"},
    "trpo": {"algorithm": "trpo"},
    "the value function's": {
        "normalize_values": True, "algorithm.value_clip": 0.2, "algorithm.value_epochs": 5,
        "recompute_advantages": True, "normalize_advantages": True,
    },
    "state-dependent deviations": {"model.state_dependent_std": True, "optimizer": "adamw", "target_kl": 0.03},
    "stopped by the KL": {"target_kl": 1e-3, "optimizer.lr": 3e-3, "epochs": 4},
}  # fmt: skip
"""What runs code of its own, besides the defaults."""
DROPOUT = ("env=hopper", "trainer=gpu", "logger=none", "num_envs=4", "epochs=3", "model.dropout=0.1")


def moved(rollout: Rollout, device: str) -> Rollout:
    parts = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(rollout).items()
    }
    return Rollout(**parts)


def updated(config: Config, policy: ActorCritic, rollout: Rollout, device: str, *, compiled: bool) -> torch.Tensor:
    policy = copy.deepcopy(policy).to(device)
    learner, flat = make_learner(policy, dataclasses.replace(config, compile=str(compiled).lower()))
    there = moved(rollout, device)
    learner.update(there, there.rewards)
    return flat.vector.detach().cpu()


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2,)), spaces.Discrete(3)], ids=["Box", "Discrete"])
def test_an_update_on_the_gpu_equals_one_on_the_processor(
    space: spaces.Space, compiled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config("probe/Diary-v0", minibatch_size=8, epochs=3)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(space), config.model, normalize=False)
    rollout = random_rollout(policy, INPUTS)
    expected = updated(config, policy, rollout, "cpu", compiled=False)
    result = updated(config, policy, rollout, "cuda", compiled=compiled)
    assert "not compiling" not in caplog.text
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_every_algorithm_makes_the_update_on_the_gpu_that_it_makes_on_the_processor(case: str) -> None:
    config = tiny_config("probe/Diary-v0", minibatch_size=8, num_envs=4, rollout_steps=8, **CASES[case])
    torch.manual_seed(0)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(spaces.Box(-1, 1, (2,))), config.model, normalize=False)
    rollout = random_rollout(policy, INPUTS)
    expected = updated(config, policy, rollout, "cpu", compiled=False)
    assert not torch.equal(expected, flatten_parameters(policy).vector)
    result = updated(config, policy, rollout, "cuda", compiled=False)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_every_algorithm_trains_on_the_gpu(case: str, tmp_path: Path) -> None:
    config = make_config("env=pendulum", "trainer=gpu", "logger=none", total_steps=6000, eval_episodes=2, **CASES[case])
    assert run(config, tmp_path).steps >= 6000


@needs_gpu
@pytest.mark.parametrize("compiled", ["compile=false", "compile=true"])
def test_a_run_on_the_gpu_that_is_killed_resumes_as_itself(compiled: str, tmp_path: Path) -> None:
    """Also with dropout, whose random numbers are the GPU's own."""
    whole = whole_run(tmp_path / "whole", *DROPOUT, compiled)
    killed = killed_run(tmp_path / "killed", 0, *DROPOUT, compiled)
    assert "not compiling" not in (whole / "train.log").read_text() + (killed / "train.log").read_text()
    assert_the_same_run(whole, killed)


@needs_gpu
def test_a_replayed_gradient_drops_other_units_every_time(caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config("probe/Diary-v0", **{"model.dropout": 0.5})
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(spaces.Discrete(3)), config.model, normalize=False)
    rollout = random_rollout(policy, INPUTS)
    policy = policy.to("cuda").train()
    parts = make_context(policy, config)
    there = moved(rollout, "cuda")
    samples = Experience(there, there.rewards, there.values, config).samples(there.values)
    replayed = compiled_on_first_call(whole_gradient(policy, parts.flat, ppo_objective(policy, config)))
    gradients = [replayed(parts.flat.vector.detach(), *samples)[0].clone() for _ in range(6)]
    assert "not compiling" not in caplog.text
    assert len({tuple(gradient.tolist()) for gradient in gradients}) == 6


@needs_gpu
def test_what_the_gpu_has_trained_goes_on_and_is_evaluated_on_the_processor(tmp_path: Path) -> None:
    small = ("env=cartpole", "logger=none", "num_envs=4", "compile=false", "eval_episodes=2")
    first = train(tmp_path, *small, "trainer=auto", "total_steps=3000")
    assert first.code == 0, first.err
    (folder,) = run_folders(tmp_path)
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt").module["random"]["device"] == "cuda"
    then = train(tmp_path, f"resume={folder}", "trainer=cpu", "total_steps=6000")
    assert then.code == 0, then.err
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt").module["random"]["device"] == "cpu"
    back = train(tmp_path, f"resume={folder}", "trainer=gpu", "total_steps=9000")
    assert back.code == 0, back.err
    shown = evaluate(tmp_path, f"run={folder}")
    assert shown.code == 0, shown.err


@needs_gpu
def test_a_rollout_is_stored_on_the_gpu() -> None:
    config = tiny_config("CartPole-v1")
    env = make_env(config)
    policy = ActorCritic(env.layout, action_distribution(env.action_space), config.model, normalize=True)
    rollout = Collector(env, 8, 0.99, torch.Generator("cuda")).collect(policy.to("cuda"))
    tensors = [value for value in vars(rollout).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 9 and all(tensor.is_cuda for tensor in tensors)
    assert native_policy(policy, flatten_parameters(policy)) is None


@needs_gpu
def test_a_run_on_the_gpu_ends_with_a_result(tmp_path) -> None:
    config = make_config("env=cartpole", "trainer=gpu", "logger=none", total_steps=6000, eval_episodes=2)
    assert run(config, tmp_path).steps >= 6000


@without_gpu
def test_without_a_gpu_the_message_names_the_setting_and_the_fix(tmp_path) -> None:
    with pytest.raises(ConfigError, match="trainer=gpu: PyTorch finds no GPU here; use trainer=cpu or trainer=auto"):
        run(make_config("env=cartpole", "trainer=gpu", "logger=none"), tmp_path)
    assert not any(tmp_path.iterdir())
