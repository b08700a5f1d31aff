"""Training on a GPU: the same numbers to rounding, and everything where it belongs."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from gymnasium import spaces

from helpers import make_config, make_env, make_learner, random_rollout, tiny_config
from ppolab.config import Config
from ppolab.errors import ConfigError
from ppolab.experiment import run
from ppolab.native import native_policy
from ppolab.parameters import flatten_parameters
from ppolab.policy import ActorCritic, action_distribution
from ppolab.rollout import Collector, Rollout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
INPUTS = 3


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
def test_an_update_on_the_gpu_equals_one_on_the_processor(space: spaces.Space, compiled: bool) -> None:
    config = tiny_config("probe/Diary-v0", minibatch_size=8, epochs=3)
    policy = ActorCritic(INPUTS, action_distribution(space), config.model, normalize=False)
    rollout = random_rollout(policy, INPUTS)
    expected = updated(config, policy, rollout, "cpu", compiled=False)
    result = updated(config, policy, rollout, "cuda", compiled=compiled)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


@needs_gpu
def test_a_rollout_is_stored_on_the_gpu() -> None:
    config = tiny_config("CartPole-v1")
    env = make_env(config)
    policy = ActorCritic(env.observation_size, action_distribution(env.action_space), config.model, normalize=True)
    rollout = Collector(env, 8, 0.99, torch.Generator("cuda")).collect(policy.to("cuda"))
    tensors = [value for value in vars(rollout).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 9 and all(tensor.is_cuda for tensor in tensors)
    assert native_policy(policy, flatten_parameters(policy), config) is None


@needs_gpu
def test_a_run_on_the_gpu_ends_with_a_result(tmp_path) -> None:
    config = make_config("env=cartpole", "trainer=gpu", "logger=none", total_steps=6000, eval_episodes=2)
    assert run(config, tmp_path).steps >= 6000


@without_gpu
def test_without_a_gpu_the_message_names_the_setting_and_the_fix(tmp_path) -> None:
    with pytest.raises(ConfigError, match="trainer=gpu: PyTorch finds no GPU here; use trainer=cpu or trainer=auto"):
        run(make_config("env=cartpole", "trainer=gpu", "logger=none"), tmp_path)
    assert not any(tmp_path.iterdir())
