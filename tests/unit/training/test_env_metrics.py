"""Entries of the environment's info as metrics of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import run_small

from ppolab.config.metrics import run_metrics
from ppolab.errors import ConfigError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.training import run
from ppolab.training.result import RunResult

DOUBLED = {
    "env": "cartpole", "env.wrappers": ["sample_wrappers:Doubled"], "env.log_info": ["total", "is_long"],
    "objective": "env/total",
}  # fmt: skip


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_small(tmp_path_factory.mktemp("run"), **DOUBLED)


def test_a_metric_is_the_mean_over_the_episodes_of_the_return(doubled: RunResult) -> None:
    rows = [row for row in read_metrics(doubled.folder.metrics) if "train/return" in row]
    assert len(rows) >= 9  # from the first iteration on
    assert [row["env/total"] for row in rows] == pytest.approx([row["train/return"] for row in rows])
    assert all(0 <= row["env/is_long"] <= 1 for row in rows) and rows[-1]["env/is_long"] > 0
    assert doubled.objectives == (doubled.metrics["env/total"],)
    assert run_metrics(doubled.config)[-2:] == ("env/total", "env/is_long")


def test_nothing_else_changes_the_numbers(doubled: RunResult, tmp_path: Path) -> None:
    without = run_small(tmp_path, **(DOUBLED | {"env.log_info": [], "objective": "eval/return"}))
    shared = {key for key in without.metrics if not key.startswith("time/")}
    assert {key: doubled.metrics[key] for key in shared} == {key: without.metrics[key] for key in shared}


def test_a_resumed_run_goes_on_with_the_same_episodes(doubled: RunResult, tmp_path: Path) -> None:
    half = run_small(tmp_path, **(DOUBLED | {"anneal_lr": False, "total_steps": 320}))
    found = FoundRun(RunFolder(tmp_path), half.folder.checkpoint("last"))
    again = run.run(run_config(640), tmp_path, found)
    whole = run_small(tmp_path / "whole", **(DOUBLED | {"anneal_lr": False}))
    assert again is not None and again.metrics["env/total"] == whole.metrics["env/total"]
    stored = load_checkpoint(half.folder.checkpoint("last")).module["recent_episodes"]
    assert set(stored[0][-1]) == {"total", "is_long"}


def run_config(steps: int):  # type: ignore[no-untyped-def]
    from small_runs import small_config

    settings = {"logger": "none", "total_steps": steps, "eval_interval": 200, "eval_episodes": 2, "anneal_lr": False}
    return small_config(**(settings | DOUBLED))


def test_an_objective_must_be_among_the_named_entries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objective=env/other: env/other is no metric"):
        run_small(tmp_path, **(DOUBLED | {"objective": "env/other"}))
