"""Short seeded runs that must pass a mark which a broken algorithm would miss."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_config

from ppolab.training.result import RunResult
from ppolab.training.run import run

RANDOM_PENDULUM = -1200.0
"""Mean return of random actions; episodes range from about -1800 to -900."""


def train(folder: Path, *overrides: str) -> RunResult:
    return run(make_config("logger=none", "eval_interval=0", *overrides), folder)


@pytest.mark.parametrize("seed", [0, 1])
def test_cartpole_is_solved_within_100_thousand_steps(seed: int, tmp_path: Path) -> None:
    result = train(tmp_path, "experiment=cartpole_fast", f"seed={seed}")
    assert result.steps <= 100_000 + 1024
    assert result.metrics["train/return"] >= 475
    assert result.metrics["eval/return"] >= 475


def test_pendulum_is_swung_up(tmp_path: Path) -> None:
    result = train(tmp_path, "experiment=pendulum_swingup", "total_steps=100000")
    assert result.metrics["eval/return"] > -400 > RANDOM_PENDULUM


CARTPOLE = ("env=cartpole", "num_envs=8", "rollout_steps=128")
PENDULUM = ("env=inverted_pendulum", "num_envs=16", "rollout_steps=64")
FEW_STEPS = ("epochs=4", "minibatch_size=256", "compile=false")
"""As many gradient steps as PyTorch makes in a few seconds."""
MARKS: dict[str, tuple[tuple[str, ...], float]] = {
    "ppo_penalty": ((*CARTPOLE, *FEW_STEPS, "total_steps=60000", "optimizer.lr=3e-3"), 400),
    "unclipped": ((*CARTPOLE, *FEW_STEPS, "total_steps=60000", "optimizer.lr=3e-3"), 400),
    "a2c": (("env=cartpole", "total_steps=100000"), 400),
    "vpg": ((*CARTPOLE, "total_steps=100000"), 400),
    "npg": ((*CARTPOLE, "total_steps=60000"), 400),
    "trpo": ((*CARTPOLE, "total_steps=60000"), 400),
}
"""For each of the other algorithms, what it is trained on and the return it must reach; random actions make 22."""
CONTINUOUS_MARKS: dict[str, tuple[tuple[str, ...], float]] = {
    "ppo_penalty": ((*PENDULUM, *FEW_STEPS, "total_steps=80000", "optimizer.lr=1e-3"), 600),
    "unclipped": ((*PENDULUM, *FEW_STEPS, "total_steps=80000", "optimizer.lr=1e-3"), 600),
    "a2c": (("env=inverted_pendulum", "total_steps=100000"), 600),
    "vpg": (("env=inverted_pendulum", "num_envs=16", "rollout_steps=32", "total_steps=100000"), 600),
    "npg": ((*PENDULUM, "total_steps=80000"), 600),
    "trpo": ((*PENDULUM, "total_steps=80000"), 600),
}
"""The same with continuous actions; random ones make 6, and 1000 is the most."""


@pytest.mark.parametrize("name", MARKS)
def test_every_algorithm_learns_cartpole(name: str, tmp_path: Path) -> None:
    settings, mark = MARKS[name]
    assert train(tmp_path, *settings, f"algorithm={name}").metrics["eval/return"] >= mark


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUOUS_MARKS)
def test_every_algorithm_learns_continuous_actions(name: str, tmp_path: Path) -> None:
    settings, mark = CONTINUOUS_MARKS[name]
    assert train(tmp_path, *settings, f"algorithm={name}").metrics["eval/return"] >= mark
