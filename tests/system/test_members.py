"""Several seeds at once are the runs that each would be alone, to rounding."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_config

from ppolab.config.schema import Config
from ppolab.records.checkpoint import load_checkpoint
from ppolab.training.members import Seed, run_members
from ppolab.training.run import run

pytestmark = pytest.mark.xdist_group("warp")

SEEDS = (3, 4)
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "InvertedPendulum": (("env=inverted_pendulum",), {}),
    "Hopper, stopped by the KL": (("env=hopper",), {"target_kl": 1e-4, "optimizer.lr": 3e-3}),
    "nothing is scaled": (
        ("env=inverted_pendulum",), {"normalize_observations": False, "normalize_rewards": False, "epochs": 1},
    ),
}  # fmt: skip
MEASURED = ("time/steps_per_second", "time/rollout", "time/update", "time/total")


def configured(seed: int, case: str) -> Config:
    groups, settings = CASES[case]
    small: dict[str, Any] = {
        "env.backend": "warp", "trainer": "cpu", "logger": "none", "progress": "off", "compile": "false", "num_envs": 4,
        "rollout_steps": 16, "minibatch_size": 16, "epochs": 3, "total_steps": 200, "eval_interval": 100,
        "eval_episodes": 2, "logger.video": False, "checkpoint_interval": 0, "trainer.threads": 1,
    }  # fmt: skip
    return make_config(*groups, seed=seed, **{**small, **settings})


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if value and key not in MEASURED}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("case", CASES)
def test_members_are_the_runs_that_each_would_be_alone(case: str, tmp_path: Path) -> None:
    results = run_members([Seed(configured(seed, case), tmp_path / f"member-{seed}") for seed in SEEDS])
    last = []
    for seed, result in zip(SEEDS, results, strict=True):
        alone = run(configured(seed, case), tmp_path / f"alone-{seed}")
        assert alone is not None and (result.config.seed, result.steps) == (seed, alone.steps)
        ours, theirs = rows(tmp_path / f"member-{seed}"), rows(tmp_path / f"alone-{seed}")
        assert len(ours) == len(theirs) >= 4
        for mine, other in zip(ours, theirs, strict=True):
            assert mine == pytest.approx(other, rel=2e-2, abs=2e-3)
        states = [
            load_checkpoint(tmp_path / f"{kind}-{seed}/checkpoints/last.ckpt").module for kind in ("member", "alone")
        ]
        assert states[0].keys() == states[1].keys()
        for name, value in states[1]["policy"].items():
            torch.testing.assert_close(states[0]["policy"][name], value, rtol=1e-2, atol=1e-3)
        assert torch.equal(states[0]["random"]["actions"], states[1]["random"]["actions"])
        assert torch.equal(states[0]["random"]["shuffle"], states[1]["random"]["shuffle"])
        last.append(ours[-1])
    assert last[0] != last[1]
