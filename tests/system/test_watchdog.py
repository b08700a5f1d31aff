"""An environment that hangs ends the run, whatever waits for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commands import TINY, TRAIN, ended, metric_rows, run_folders, session, start_training, wait_until
from ppolab.records.checkpoint import load_checkpoint
from ppolab.training.watchdog import watched

HANGS = """
import multiprocessing
import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Hangs(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def __init__(self, render_mode=None, where="anywhere"):
        self.steps = 0
        self.hangs = where == "anywhere" or (multiprocessing.current_process().name != "MainProcess")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.hangs and self.steps == 100:
            time.sleep(3600)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, self.steps % 20 == 0, False, {}


gymnasium.register("Hangs-v0", entry_point=Hangs)
"""
LINE = "hangs:Hangs-v0: no environment has answered for 2 s; mend it, or allow it more with env.timeout"
SETTINGS = ("env.id=hangs:Hangs-v0", "env.timeout=2", *TINY, "total_steps=100000", "checkpoint_interval=64")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "hangs.py").write_text(HANGS)
    return tmp_path


def status_of_the_run(workspace: Path) -> str:
    from mlflow import MlflowClient

    (run,) = MlflowClient(f"sqlite:///{workspace}/outputs/mlflow.db").search_runs(["1"])
    (folder,) = run_folders(workspace)
    assert run.data.metrics["policy/kl"] == pytest.approx(float(metric_rows(folder)[-1]["policy/kl"]))
    return str(run.info.status)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_run_whose_environment_hangs_fails_and_keeps_what_it_had(vectorization: str, workspace: Path) -> None:
    with session(workspace, TRAIN, *SETTINGS, f"env.vectorization={vectorization}", "eval_interval=0") as process:
        answer = ended(process)
    assert answer.code == 1
    assert [line for line in answer.err.splitlines() if line.startswith("ppolab: ")] == [f"ppolab: {LINE}"]
    assert status_of_the_run(workspace) == "FAILED"
    (run,) = run_folders(workspace)
    assert load_checkpoint(run / "checkpoints" / "last.ckpt").module["steps"] >= 64


def test_a_run_of_two_processes_tells_which_of_them_hangs(workspace: Path) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "+env.kwargs.where=others")
    with session(workspace, TRAIN, *SETTINGS, *two) as process:
        answer = ended(process)
    assert answer.code == 1
    assert f"ppolab: process 1 of 2: {LINE}; its output is in" in answer.err


def test_a_second_interrupt_ends_a_run_that_hangs(workspace: Path) -> None:
    process = start_training(workspace, *SETTINGS, "env.timeout=0", "eval_interval=0")
    try:
        wait_until(lambda: any(len(metric_rows(run)) >= 5 for run in run_folders(workspace) if has_metrics(run)))
        time.sleep(1)
        process.terminate()
        time.sleep(1)
        assert process.poll() is None, "the first one waits for the iteration"
        process.terminate()
        answer = ended(process, 30)  # type: ignore[arg-type]
    finally:
        process.kill()
        process.communicate()
    assert answer.code == 130
    assert "interrupted twice" in answer.err
    assert status_of_the_run(workspace) == "KILLED"


def has_metrics(run: Path) -> bool:
    return (run / "metrics.csv").is_file()


def answers(seconds: float, waiting: float | None) -> list[str]:
    """What `watched` says in a second about an environment that has been waited for so long."""
    told: list[str] = []
    came = threading.Event()

    def tell(problem: str) -> None:
        told.append(problem)
        came.set()

    since = None if waiting is None else time.monotonic() - waiting
    env: Any = SimpleNamespace(env_id="Some-v0", waiting_since=since)
    with watched([env], seconds, tell):
        came.wait(1)
    return told


def test_only_an_environment_that_takes_longer_than_allowed_is_given_up() -> None:
    assert len(answers(0.2, waiting=10)) == 1
    assert answers(60, waiting=10) == []
    assert answers(0.2, waiting=None) == []
    assert answers(0, waiting=10) == []
