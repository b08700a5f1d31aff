"""How far a run is, as its files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppolab.records.metrics_file import MetricsFile
from ppolab.records.run_folder import RunFolder
from ppolab.records.run_progress import RunProgress, progress_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "config.yaml").write_text("env:\n  kwargs:\n    total_steps: 7\ntotal_steps: 4000\nseed: 0\n")
    return RunFolder(tmp_path)


def written(folder: RunFolder, rows: list[tuple[int, dict[str, float]]]) -> None:
    file = MetricsFile(folder.metrics, ("train/return", "eval/return", "loss/policy"), 0)
    for step, metrics in rows:
        file.write(step, metrics)
    file.close()


def test_the_last_row_says_how_far_it_is(folder: RunFolder) -> None:
    written(folder, [(1000, {"train/return": 10.0}), (2040, {"train/return": 12.5}), (2040, {"eval/return": 400.0})])
    progress = progress_of(folder)
    assert progress == RunProgress(2040, 4000, 12.5), "an evaluation's row has no training return"
    assert progress.percent == 51


def test_without_a_training_return_the_evaluation_counts(folder: RunFolder) -> None:
    written(folder, [(1000, {"loss/policy": 0.5}), (1000, {"eval/return": 400.0}), (5000, {"loss/policy": 0.5})])
    progress = progress_of(folder)
    assert progress == RunProgress(5000, 4000, 400.0)
    assert progress.percent == 100, "the last iteration may go beyond the end"


def test_before_the_first_row_there_is_nothing(folder: RunFolder) -> None:
    assert progress_of(RunFolder(folder.path / "nowhere")) is None
    assert progress_of(folder) is None
    written(folder, [])
    assert progress_of(folder) is None


def test_a_row_that_is_being_written_waits(folder: RunFolder) -> None:
    written(folder, [(1000, {"train/return": 10.0})])
    with folder.metrics.open("a") as file:
        file.write("2000,1")
    assert progress_of(folder) == RunProgress(1000, 4000, 10.0)


def test_of_a_long_file_only_the_end_is_read(folder: RunFolder) -> None:
    written(folder, [(step, {"train/return": float(step)}) for step in range(1, 3001)])
    assert folder.metrics.stat().st_size > 2 * 16384
    assert progress_of(folder) == RunProgress(3000, 4000, 3000.0)
