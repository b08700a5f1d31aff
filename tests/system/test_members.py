"""Several seeds at once are the runs that each would be alone, to rounding."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_config
from studies import runs, trials

from commands import train
from ppolab.config.schema import Config
from ppolab.errors import TrainingError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.training.members import Seed, run_members
from ppolab.training.run import run

SEEDS = (3, 4)
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "InvertedPendulum": (("env=inverted_pendulum",), {"exploration.final_log_std": -3.0}),
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


def test_a_study_trains_the_seeds_of_a_trial_at_once(tmp_path: Path) -> None:
    answer = train(
        tmp_path, "-m", "env=inverted_pendulum", "env.backend=warp", "trainer=cpu", "clip=interval(0.1,0.3)", "seed=10",
        "study_name=s", "workers=1", "n_trials=1", "seeds_per_trial=2", "num_envs=4", "rollout_steps=16", "epochs=1",
        "minibatch_size=16", "total_steps=100", "eval_episodes=2", "eval_interval=0", "compile=false",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "seeds         2 of a trial at once, as one batch of 8 worlds" in answer.out
    (trial,) = trials(tmp_path)
    children = runs(tmp_path, "tags.trial = '0' AND tags.`ppolab.kind` = 'seed'")
    assert [run.info.run_name for run in children] == ["trial-0000-seed-0", "trial-0000-seed-1"]
    assert [run.data.params["seed"] for run in children] == ["10", "11"]
    assert trial.user_attrs["eval/return each seed"] == [run.data.metrics["eval/return"] for run in children]
    for folder in map(Path, trial.user_attrs["folders"]):
        assert {"config.yaml", "metrics.csv", "train.log", "learning_curve.png"} <= {
            each.name for each in folder.iterdir()
        }
        assert load_checkpoint(folder / "checkpoints/best.ckpt").module["steps"] >= 100
        assert "2 seeds at once" in (folder / "train.log").read_text()


def test_a_seed_whose_numbers_break_is_named(tmp_path: Path) -> None:
    seeds = [
        Seed(replace(configured(seed, "InvertedPendulum"), max_grad_norm=0.0), tmp_path / str(seed)) for seed in SEEDS
    ]
    broken = replace(seeds[1].config, optimizer={**seeds[1].config.optimizer, "lr": 1e38})
    with pytest.raises(TrainingError, match=r"^seed=4: the loss or the parameters are no longer finite"):
        run_members([seeds[0], replace(seeds[1], config=broken)])
    assert json.loads((tmp_path / "3/run.json").read_text())["finished"] is False
