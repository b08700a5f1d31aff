"""Runs whose observations are images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import probe_envs  # noqa: F401
import pytest
from small_runs import run_small

import ppolab
from ppolab.envs import envpool_ids

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


@pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
def test_atari_trains_with_its_preset_and_is_judged_by_the_games_own_score(tmp_path: Path) -> None:
    small = ["total_steps=64", "num_envs=2", "rollout_steps=16", "minibatch_size=32", "epochs=1", "eval_episodes=2"]
    more = ["logger=none", "env.kwargs.max_episode_steps=90", f"hydra.run.dir={tmp_path}/run"]
    result = ppolab.train(["experiment=atari", "env=breakout", *small, *more])
    assert result.metrics["eval/length"] == 90, "at least three lives, and not the whole game"
    assert result.config.env.kwargs == {"episodic_life": True, "reward_clip": True, "max_episode_steps": 90}
    agent = result.agent()
    assert agent.evaluate(2).lengths == [90, 90]
    env = agent.make_env()
    observation, _ = env.reset(seed=3)
    assert observation.shape == (4, 84, 84)
    assert agent.act(observation) in range(4)


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
