"""Runs whose observations are images."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from small_runs import run_small

import ppolab
from ppolab.envs import envpool_backend


class Dot(gymnasium.Env):
    """A white dot on the left or on the right of a picture; the action must name its side."""

    action_space = spaces.Discrete(2)

    def __init__(self, mixed: bool = False) -> None:
        picture = spaces.Box(0, 255, (9, 10, 1), np.uint8)
        self.observation_space = spaces.Dict(eye=picture, hand=spaces.Box(-1, 1, (2,))) if mixed else picture
        self._mixed = mixed

    def _seen(self) -> object:
        self._column = int(self.np_random.integers(10))
        picture = np.zeros((9, 10, 1), np.uint8)
        picture[self.np_random.integers(9), self._column] = 255
        return {"eye": picture, "hand": np.zeros(2, np.float32)} if self._mixed else picture

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        self._steps = 0
        return self._seen(), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        right = action == (self._column >= 5)
        self._steps += 1
        return self._seen(), float(right), False, self._steps == 10, {}


gymnasium.register("probe/Dot-v0", Dot)
SMALL = {
    "env": "cartpole", "env.id": "probe/Dot-v0", "num_envs": 8, "rollout_steps": 64, "minibatch_size": 64, "epochs": 4,
    "eval_interval": 0, "eval_episodes": 10, "model.hidden_sizes": [64], "optimizer.lr": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("mixed", [False, True])
def test_a_policy_learns_from_pixels(mixed: bool, tmp_path: Path) -> None:
    result = run_small(tmp_path, **(SMALL | {"env.kwargs": {"mixed": mixed}, "total_steps": 6000}))
    assert result.metrics["eval/return"] > 8.5  # guessing gives 5


@pytest.mark.parametrize("mixed", [False, True])
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(mixed: bool, tmp_path: Path) -> None:
    settings = SMALL | {"env.kwargs": {"mixed": mixed}, "anneal_lr": False, "checkpoint_interval": 512}
    whole = run_small(tmp_path / "whole", **(settings | {"total_steps": 1500}))
    half = run_small(tmp_path / "half", **(settings | {"total_steps": 1000}))
    again = ppolab.train([f"resume={half.folder.path}", "total_steps=1500"])
    shared = {key for key in whole.metrics if not key.startswith("time/")}
    assert {key: again.metrics[key] for key in shared} == {key: whole.metrics[key] for key in shared}
    assert math.isfinite(whole.metrics["loss/value"])


OWN = {
    "model.network": "sample_image_networks:Parts", "+model.kwargs": {"width": 32}, "model.hidden_sizes": [64, 64],
    "env.kwargs": {"mixed": True},
}  # fmt: skip


def test_a_network_of_the_users_own_learns_from_pixels_and_goes_on_exactly(tmp_path: Path) -> None:
    settings = SMALL | OWN | {"anneal_lr": False, "checkpoint_interval": 3000}
    whole = run_small(tmp_path / "whole", **(settings | {"total_steps": 9000}))
    assert whole.metrics["eval/return"] > 8.5  # guessing gives 5
    half = run_small(tmp_path / "half", **(settings | {"total_steps": 3000}))
    again = ppolab.train([f"resume={half.folder.path}", "total_steps=9000"])
    shared = {key for key in whole.metrics if not key.startswith("time/")}
    assert {key: again.metrics[key] for key in shared} == {key: whole.metrics[key] for key in shared}
    for kind in ("onnx", "torch_export"):
        exported = again.agent().export(tmp_path / kind, format=kind)
        assert exported.greatest_difference == 0  # actions are whole numbers


@pytest.mark.skipif(not envpool_backend.is_installed(), reason="EnvPool has no build for this platform")
def test_atari_trains_with_its_preset_and_is_judged_by_the_games_own_score(tmp_path: Path) -> None:
    small = ["total_steps=64", "num_envs=2", "rollout_steps=16", "minibatch_size=32", "epochs=1"]
    more = ["eval_episodes=1", "logger=none", "env.kwargs.max_episode_steps=50", f"hydra.run.dir={tmp_path}/run"]
    result = ppolab.train(["experiment=atari", *small, *more])
    assert result.metrics["eval/length"] == 50
    assert result.config.env.kwargs == {"episodic_life": True, "reward_clip": True, "max_episode_steps": 50}
    env = result.agent().make_env()
    observation, _ = env.reset(seed=3)
    assert observation.shape == (4, 84, 84)
    assert result.agent().act(observation) in range(6)


def test_the_agent_takes_the_picture_as_the_environment_gives_it(tmp_path: Path) -> None:
    result = run_small(tmp_path, **(SMALL | {"total_steps": 600}))
    agent = result.agent()
    env = agent.make_env()
    observation, _ = env.reset(seed=0)
    assert agent.act(observation) in (0, 1)
    assert agent.act(np.stack([observation] * 3)).shape == (3,)
    with pytest.raises(ppolab.ConfigError, match=r"observation: has shape \(9, 10\); one observation has \(9, 10, 1\)"):
        agent.act(observation[..., 0])
    exported = agent.export(tmp_path / "policy.onnx")
    assert exported.path.is_file()
