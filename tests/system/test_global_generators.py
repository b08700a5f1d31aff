"""Environments that draw from the generators of the whole process: no twins, and the same numbers at a second call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import evaluate, metric_rows, run_folders, train

SOURCE = '''
"""An environment that draws from the global generators, and writes down what it was given first."""
import json
import random
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Global(gymnasium.Env):
    observation_space, action_space = Box(0, 1, (2,), np.float64), Discrete(2)

    def __init__(self, render_mode=None):
        self.first = True

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        drawn = [float(np.random.rand()), random.random()]
        if self.first:
            with Path("drawn").open("a") as notes:
                notes.write(json.dumps(drawn) + "\\n")
        self.first = False
        return np.array(drawn), {}

    def step(self, action):
        self.steps += 1
        return np.random.rand(2), random.random(), self.steps >= 5, False, {}


gymnasium.register("Global-v0", entry_point=Global)
'''
RUN = (
    "env.id=numbers_env:Global-v0", "total_steps=256", "num_envs=4", "rollout_steps=16", "minibatch_size=32",
    "epochs=1", "compile=false", "eval_episodes=2", "logger.kind=none", "logger.video=false",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "numbers_env.py").write_text(SOURCE)
    return tmp_path


def drawn(folder: Path) -> list[tuple[float, ...]]:
    """What each environment was given first since the last call, in an order that processes do not change."""
    notes = folder / "drawn"
    found = sorted(tuple(json.loads(line)) for line in notes.read_text().splitlines())
    notes.unlink()
    return found


def assert_all_different(numbers: list[tuple[float, ...]]) -> None:
    for column in zip(*numbers, strict=True):
        assert len(set(column)) == len(numbers)


@pytest.mark.parametrize(
    "settings",
    [
        ("env.vectorization=sync",),
        ("env.vectorization=async",),
        ("trainer=ddp", "trainer.devices=2", "num_envs=2"),
    ],
    ids=" ".join,
)
def test_four_environments_draw_different_numbers_and_the_same_at_a_second_call(
    folder: Path, settings: tuple[str, ...]
) -> None:
    calls = []
    for _ in range(2):
        assert train(folder, *RUN, "eval_interval=0", *settings).code == 0
        calls.append(drawn(folder))
    assert len(calls[0]) == 4 + 2  # the last two are those of the evaluation at the end
    assert_all_different(calls[0])
    assert calls[0] == calls[1]


def test_evaluations_leave_training_alone(folder: Path) -> None:
    columns = ("train/return", "loss/policy", "loss/value")
    runs = []
    for name, interval in (("without", 0), ("with", 64)):
        answer = train(folder, *RUN, f"eval_interval={interval}", f"hydra.run.dir={name}")
        assert answer.code == 0, answer.err
        rows = metric_rows(folder / name)
        runs.append([[row.get(column) for column in columns] for row in rows if row.get("loss/policy")])
    assert len(runs[0]) >= 3 and runs[0] == runs[1]


def test_an_evaluation_follows_its_own_seed(folder: Path) -> None:
    assert train(folder, *RUN).code == 0
    (run,) = run_folders(folder)
    drawn(folder)
    found = []
    for seed in (0, 0, 1):
        answer = evaluate(folder, f"run={run}", f"seed={seed}", "episodes=3", "video=false")
        assert answer.code == 0, answer.err
        found.append((drawn(folder), [line for line in answer.out.splitlines() if line.startswith("each return")]))
    assert found[0] == found[1]
    assert_all_different(found[0][0] + found[2][0])
