"""Runs whose actions are a choice and a number, of one Dict with a Tuple in it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import probe_envs  # noqa: F401
import pytest
from in_process import call
from small_runs import run_small

import ppolab
from commands import assert_one_line
from ppolab.cli.commands import train_main

ORDERS: dict[str, Any] = {
    "env.id": "probe_envs:probe/Orders-v0", "num_envs": 8, "rollout_steps": 64, "minibatch_size": 64, "epochs": 8,
    "optimizer.lr": 3e-3, "gamma": 0.5, "normalize_rewards": False, "eval_interval": 0, "eval_episodes": 10,
    "model.hidden_sizes": [32],
}  # fmt: skip


def test_a_policy_learns_both_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        result = run_small(tmp_path, **(ORDERS | {"total_steps": 6000, "compile": "auto"}))
    assert result.metrics["eval/return"] > 8.0  # one part alone gives 3.3 or 5
    assert "since an action has parts of different kinds" in caplog.text
    assert 0.1 < result.metrics["policy/std"] < 0.95
    agent = result.agent()
    wanted, amount = np.array([0.5, 0, 0, 1], np.float32), np.array([-0.5, 1, 0, 0], np.float32)
    batch = agent.act(np.stack([wanted, amount]))
    assert batch["which"].tolist() == [3, 1]
    assert batch["how"][0].reshape(-1).tolist() == pytest.approx([7.5, 2.5], abs=1.5)
    one = agent.act(wanted)
    assert one["which"] == 3 and one["how"][0].shape == (1,)
    drawn = [agent.act(wanted, deterministic=False)["how"][0][0] for _ in range(20)]
    assert len(set(drawn)) == 20
    assert agent.evaluate(episodes=3).mean > 8.0


@pytest.mark.parametrize("changes", [{}, {"env.vectorization": "async", "model.state_dependent_std": True}], ids=str)
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = ORDERS | {"anneal_lr": False, "checkpoint_interval": 512} | changes
    whole = run_small(tmp_path / "whole", **(settings | {"total_steps": 1500}))
    half = run_small(tmp_path / "half", **(settings | {"total_steps": 1000}))
    again = ppolab.train([f"resume={half.folder.path}", "total_steps=1500"])
    shared = {key for key in whole.metrics if not key.startswith("time/")}
    assert {"policy/std", "loss/policy", "eval/return"} <= shared
    assert {key: again.metrics[key] for key in shared} == {key: whole.metrics[key] for key in shared}


UNKNOWN = """
import gymnasium
from gymnasium import spaces


class Talks(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Dict(move=spaces.Discrete(2), say=spaces.Tuple((spaces.Box(0, 1), spaces.Text(5))))


gymnasium.register("Talks-v0", entry_point=Talks)
"""


def test_a_part_that_no_distribution_has_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talks.py").write_text(UNKNOWN)
    monkeypatch.syspath_prepend(tmp_path)
    answer = call(train_main, tmp_path, capsys, "env.id=talks:Talks-v0")
    assert answer.code == 2
    assert_one_line(
        answer,
        "env.id=talks:Talks-v0: the part say.1 of the action space, Text(1, 5, charset=0123456789ABCDEFGHIJKLMNOPQRSTU"
        "VWXYZabcdefghijklmnopqrstuvwxyz), is not supported; supported actions: Box of finite size, Discrete, "
        "MultiDiscrete or MultiBinary of rank 1, and Tuple or Dict of these",
    )
