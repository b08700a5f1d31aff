"""Short seeded runs that must pass a mark which a broken algorithm would miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import make_config
from ppolab.experiment import run
from ppolab.services import RunResult

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
