"""Runs in environments that do not allow every action; `probe_envs.Allowed` raises where another one is taken."""

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
from ppolab.cli.commands import train_main
from ppolab.training.result import RunResult

SIZES = {"sizes": [5]}
ALLOWED: dict[str, Any] = {
    "env.id": "probe_envs:probe/Allowed-v0", "num_envs": 8, "rollout_steps": 32, "minibatch_size": 64, "epochs": 8,
    "optimizer.lr": 3e-3, "gamma": 0.5, "eval_interval": 0, "eval_episodes": 20, "model.hidden_sizes": [32],
    "total_steps": 6000, "compile": "auto",
}  # fmt: skip


def run_allowed(folder: Path, **settings: Any) -> RunResult:
    return run_small(folder, **(ALLOWED | {"+env.kwargs": SIZES} | settings))


def test_a_policy_learns_which_of_the_allowed_actions_is_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        result = run_allowed(tmp_path)
    assert result.metrics["eval/return"] == pytest.approx(18.0, abs=1.2)  # 3 of 0 to 4 is the mean best of two
    assert result.metrics["policy/entropy"] < 0.3  # of two actions: it begins at 0.69
    assert caplog.text.count("by the mask in info['action_mask']") == 1
    assert "PyTorch computes the update" not in caplog.text
    agent = result.agent()
    assert agent.evaluate(episodes=20).mean == pytest.approx(18.0, abs=1.2)
    assert agent.act(np.zeros(2), action_mask=[1, 1, 0, 0, 0]) == 1
    assert agent.act(np.zeros(2), action_mask=[1, 0, 0, 1, 0]) == 3


@pytest.mark.parametrize(
    "changes",
    [{}, {"+env.kwargs": {"place": "observation", "sizes": [3, 4]}, "compile": "false"},
     {"+env.kwargs": {"place": "method"}, "algorithm": "trpo"},
     {"model.memory": "gru", "model.memory_size": 8, "sequence_length": 8}],
    ids=str,
)  # fmt: skip
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = {"anneal_lr": False, "checkpoint_interval": 256, "num_envs": 4, "minibatch_size": 32, **changes}
    whole = run_allowed(tmp_path / "whole", **(settings | {"total_steps": 900}))
    half = run_allowed(tmp_path / "half", **(settings | {"total_steps": 600}))
    again = ppolab.train([f"resume={half.folder.path}", "total_steps=900"])
    shared = {key for key in whole.metrics if not key.startswith("time/")}
    assert {"policy/entropy", "loss/policy", "eval/return"} <= shared
    assert {key: again.metrics[key] for key in shared} == {key: whole.metrics[key] for key in shared}


def test_the_same_run_again_has_the_same_metrics(tmp_path: Path) -> None:
    first, second = (run_allowed(tmp_path / name, total_steps=600).metrics for name in ("first", "second"))
    assert {key: value for key, value in first.items() if not key.startswith("time/")} == {
        key: value for key, value in second.items() if not key.startswith("time/")
    }


def test_a_run_without_the_mask_meets_what_is_not_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["env.id=probe_envs:probe/Allowed-v0", "total_steps=2048", "logger=none", "progress=off"]
    answer = call(train_main, tmp_path, capsys, *arguments, "env.action_mask=off")
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    assert "RuntimeError: the action" in last and "is not allowed (probe_envs.py:" in last


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        (["+env.kwargs.fault=none"], 1, "allows no action after its step 3; mend the environment, or set"),
        (["+env.kwargs.fault=size"], 1, "gave info['action_mask'] of 4 numbers, and a mask of Discrete(5) has 5, at"),
        (["env.action_mask=on"], 2, "env.action_mask=on: must be one of auto, off"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_one_line(
    settings: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["env.id=probe_envs:probe/Allowed-v0", "total_steps=2048", "logger=none", "progress=off"]
    answer = call(train_main, tmp_path, capsys, *arguments, *settings)
    assert answer.code == code
    assert told in answer.err.splitlines()[-1] and "Traceback" not in answer.err
