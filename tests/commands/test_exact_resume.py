"""A run that is killed and resumed is the run that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import metric_rows, run_folders, start_training, train, wait_until
from forked_commands import ForkedCommand, command_pool
from ppolab.checkpoint import load_checkpoint
from ppolab.processes import ProcessPool

HIDDEN = '''
"""An environment whose state cannot be seen."""
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Counter:
    __slots__ = ("value",)


class Hidden(gymnasium.Env):
    observation_space, action_space = Box(-10, 10, (2,), np.float32), Discrete(2)

    def __init__(self, render_mode=None):
        self.counter = Counter()
        self.counter.value = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        self.counter.value += 1
        return self.look(), float(action), self.counter.value % 17 == 0, False, {}

    def look(self):
        return np.array([self.np_random.normal(), self.counter.value % 5], dtype=np.float32).clip(-10, 10)


gymnasium.register("Hidden-v0", entry_point=Hidden)
'''
COMMON = (
    "rollout_steps=16", "minibatch_size=32", "eval_episodes=2", "eval_interval=900",
    "checkpoint_interval=200", "logger.video=false", "seed=5",
)  # fmt: skip
EPOCHS = "epochs=3"
CASES: dict[str, tuple[str, ...]] = {
    "hopper, gymnasium": (EPOCHS, "env=hopper", "env.backend=gymnasium", "num_envs=4"),
    "hopper, envpool": (EPOCHS, "env=hopper", "env.backend=envpool", "num_envs=4", "env.stagger=true"),
    "cartpole, gymnasium": (EPOCHS, "env=cartpole", "env.backend=gymnasium", "num_envs=4", "compile=false"),
    "compiled": (EPOCHS, "env=hopper", "num_envs=4", "compile=true", "model.dropout=0.1"),
    "cartpole, envpool": (EPOCHS, "env=cartpole", "num_envs=4", "model.dropout=0.1"),
    "no state": (EPOCHS, "env.id=hidden:Hidden-v0", "num_envs=4", "normalize_advantages=true"),
    "penalty": (EPOCHS, "env=cartpole", "env.backend=gymnasium", "num_envs=4", "algorithm=ppo_penalty"),
    "vpg": ("env=cartpole", "env.backend=gymnasium", "num_envs=4", "algorithm=vpg"),
    "trpo": ("env=hopper", "env.backend=gymnasium", "num_envs=4", "algorithm=trpo"),
    "two processes": (
        EPOCHS,
        "env=hopper",
        "env.backend=gymnasium",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "num_envs=2",
    ),
    "two processes, envpool": (EPOCHS, "env=hopper", "trainer=ddp", "trainer.accelerator=cpu", "num_envs=2"),
}
STEPS = 6400
"""A hundred iterations."""
LONG = 4 * STEPS


def assert_the_same_run(one: Path, other: Path) -> None:
    """Every metric but the clock's, and everything in the last checkpoint, bit for bit."""
    mine, theirs = (
        [{key: value for key, value in row.items() if not key.startswith("time/")} for row in metric_rows(run)]
        for run in (one, other)
    )
    assert mine == theirs
    first, second = (load_checkpoint(run / "checkpoints" / "last.ckpt").module for run in (one, other))
    assert_equal({**first, "seconds": 0}, {**second, "seconds": 0})


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif hasattr(one, "shape"):
        assert (one == other).all()
    else:
        assert one == other or (one != one and other != other)


def whole_run(folder: Path, *settings: str, steps: int = STEPS) -> Path:
    folder.mkdir()
    (folder / "hidden.py").write_text(HIDDEN)
    answer = train(folder, *settings, *COMMON, f"total_steps={steps}")
    assert answer.code == 0, answer.err
    (run,) = run_folders(folder)
    return run


def killed_run(folder: Path, seed: int, *settings: str) -> Path:
    """The same, killed at a random moment after its first checkpoint, and resumed."""
    folder.mkdir()
    (folder / "hidden.py").write_text(HIDDEN)
    process = start_training(folder, *settings, *COMMON, f"total_steps={STEPS}")
    wait_for_checkpoint(folder, process)
    time.sleep(random.Random(seed).uniform(0, 2))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = run_folders(folder)
    answer = train(folder, f"resume={run}")
    assert answer.code == 0 or "has already taken" in answer.err, answer.err
    return run


@pytest.mark.parametrize("case", ["hopper, envpool", "compiled", "no state", "two processes"])
def test_a_killed_run_resumes_as_itself(case: str, tmp_path: Path) -> None:
    whole = whole_run(tmp_path / "whole", *CASES[case])
    killed = killed_run(tmp_path / "killed", 0, *CASES[case])
    assert_the_same_run(whole, killed)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_at_twenty_moments_resumes_as_itself(case: str, tmp_path: Path) -> None:
    whole = whole_run(tmp_path / "whole", *CASES[case], steps=LONG)
    moments, kills = random.Random(7), 0
    with command_pool() as pool:
        while kills < 20:
            folder = tmp_path / f"after {kills} kills"
            run, count = often_killed_run(pool, folder, moments, 20 - kills, *CASES[case])
            assert_the_same_run(whole, run)
            kills += count


def often_killed_run(
    pool: ProcessPool, folder: Path, moments: random.Random, times: int, *settings: str
) -> tuple[Path, int]:
    """The same, killed so many times, fewer if it is done before; with the number of kills."""
    folder.mkdir()
    (folder / "hidden.py").write_text(HIDDEN)
    command = ForkedCommand(pool, folder, (*settings, *COMMON, f"total_steps={LONG}"), folder / "output.txt")
    wait_until(lambda: command.has_ended or bool(list(folder.glob("outputs/*/*/checkpoints/last.ckpt"))))
    (run,) = run_folders(folder)
    for kill in range(times):
        time.sleep(moments.uniform(0, 1.0))
        if not command.kill():
            return run, kill
        written = (run / "metrics.csv").stat().st_mtime_ns
        command = ForkedCommand(pool, folder, (f"resume={run}",), folder / "output.txt")
        wait_until(lambda: begun(command, run, written))  # noqa: B023 it is called at once
    assert command.end() in (0, 2), (folder / "output.txt").read_text()
    return run, times


def begun(command: ForkedCommand, run: Path, written: int) -> bool:
    """Whether it goes on with the run, or found nothing to do."""
    return command.has_ended or (run / "metrics.csv").stat().st_mtime_ns > written


def test_auto_goes_on_with_the_last_unfinished_run_of_this_configuration(tmp_path: Path) -> None:
    settings = (EPOCHS, "env=cartpole", "num_envs=4", "compile=false", *COMMON, "resume=auto")
    process = start_training(tmp_path, *settings, "total_steps=100000")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (first,) = run_folders(tmp_path)
    other = train(tmp_path, *settings, "clip=0.1", "total_steps=640")
    assert other.code == 0, other.err
    assert len(run_folders(tmp_path)) == 2
    process = start_training(tmp_path, *settings, "total_steps=100000", "logger.experiment=another")
    before = len(metric_rows(first))
    end = time.monotonic() + 60
    while len(metric_rows(first)) <= before:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    refused = train(tmp_path, f"resume={first}")
    assert refused.code == 2 and "another process is training this run" in refused.err
    process.kill()
    process.communicate()
    assert len(run_folders(tmp_path)) == 2


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while not list(folder.glob("outputs/*/*/checkpoints/last.ckpt")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
