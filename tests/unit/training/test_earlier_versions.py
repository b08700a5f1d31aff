"""Run folders of ppolab 0.1.0 are found, evaluated, and gone on with."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ppolab.agents.evaluate_run import evaluate_run
from ppolab.config.command_schema import EvaluateConfig
from ppolab.config.loading import from_yaml
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun, RunFolder, find_run
from ppolab.training.run import run

FIXTURES = Path(__file__).parents[2] / "fixtures"
OF_EPISODES = ("train/return", "train/length")
"""These are means of fewer episodes than they were in 0.1.0."""
RUNS = ("run_0_untracked", "run_0_tracked")


def copied(name: str, folder: Path) -> FoundRun:
    shutil.copytree(FIXTURES / name, folder / "outputs" / name)
    return find_run("run", str(folder / "outputs" / name))


def rows_of(path: Path) -> list[dict[str, float]]:
    """All metrics but the times."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value and not key.startswith("time/")} for row in rows]


@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_goes_on_as_its_own_version_went_on(name: str, tmp_path: Path) -> None:
    found = copied(name, tmp_path)
    stored = from_yaml(found.folder.config.read_text())
    assert stored.callbacks == []
    config = replace(stored, total_steps=640, logger=replace(stored.logger, kind="none"))
    result = run(config, found.folder.path, found)
    assert result is not None and result.new_steps > 200
    now, then = rows_of(found.folder.metrics), rows_of(FIXTURES / name / "metrics_after_resume.csv")
    assert [row.keys() for row in now] == [row.keys() for row in then]
    resumed_at = rows_of(FIXTURES / name / "metrics.csv")[-1]["step"]
    for ours, theirs in zip(now, then, strict=True):
        compared = [key for key in ours if key not in OF_EPISODES or ours["step"] <= resumed_at]
        assert [ours[key] for key in compared] == pytest.approx([theirs[key] for key in compared], rel=1e-5, abs=1e-7)
    assert len(now) > len(rows_of(FIXTURES / name / "metrics.csv")) + 4


@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_is_evaluated(name: str, tmp_path: Path) -> None:
    found = copied(name, tmp_path)
    report = evaluate_run(found, EvaluateConfig(run=name, episodes=2, video=False))
    steps = load_checkpoint(found.checkpoint).module["steps"]
    assert f"last.ckpt after {steps} steps" in report
    assert "over 2 deterministic episodes" in report


def test_an_earlier_run_is_found_by_its_id(tmp_path: Path) -> None:
    found = copied("run_0_tracked", tmp_path)
    run_id = RunFolder(FIXTURES / "run_0_tracked").run_id()
    assert run_id is not None and len(run_id) == 32
    assert find_run("run", run_id, outputs=tmp_path / "outputs") == found
    assert found.folder.is_finished
