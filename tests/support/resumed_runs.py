"""Runs that are killed and resumed, beside whole ones, and the comparison of both."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from commands import metric_rows, run_folders, start_training, train
from ppolab.records.checkpoint import load_checkpoint

HIDDEN = '''
"""An environment whose state cannot be seen, and one of pictures."""
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


class Picture(gymnasium.Env):
    """One bright pixel, drawn anew at every step; its state can be seen."""

    observation_space, action_space = Box(0, 255, (9, 9), np.uint8), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.look(), {}

    def step(self, action):
        self.steps += 1
        return self.look(), float(action), False, self.steps == 23, {}

    def look(self):
        picture = np.zeros((9, 9), np.uint8)
        picture[tuple(self.np_random.integers(9, size=2))] = 255
        return picture


gymnasium.register("Hidden-v0", entry_point=Hidden)
gymnasium.register("Picture-v0", entry_point=Picture)
'''


COMMON = (
    "rollout_steps=16", "minibatch_size=32", "eval_episodes=2", "eval_interval=900",
    "checkpoint_interval=200", "logger.video=false", "seed=5",
)  # fmt: skip


STEPS = 6400


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


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while not list(folder.glob("outputs/*/*/checkpoints/last.ckpt")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
