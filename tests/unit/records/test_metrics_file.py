"""The file of metrics: whole rows only, whatever happens to the disk below it."""

from __future__ import annotations

import errno
import logging
import shutil
from pathlib import Path

import pytest

from ppolab.config.metrics import METRICS
from ppolab.errors import ConfigError
from ppolab.records.metrics_file import MetricsFile, read_metrics
from ppolab.records.run_folder import RunFolder


def steps_in(path: Path) -> list[float]:
    return [row["step"] for row in read_metrics(path)]


def test_a_resumed_run_drops_rows_beyond_its_checkpoint_and_half_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, METRICS, 0)
    for step in (10, 20, 30):
        first.write(step, {"loss/value": step / 4})
    first.close()
    with path.open("a") as file:
        file.write("1")  # of 100, when the machine went down
    assert steps_in(path) == [10, 20, 30]
    MetricsFile(path, METRICS, 20).close()
    assert read_metrics(path) == [{"step": 10, "loss/value": 2.5}, {"step": 20, "loss/value": 5}]


def test_a_resumed_run_may_have_other_metrics_than_it_had(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss/value,policy/beta\n10,2.5,1.0\n")
    file = MetricsFile(path, METRICS, 10)
    file.write(20, {"loss/value": 5.0})
    file.close()
    assert read_metrics(path) == [{"step": 10, "loss/value": 2.5}, {"step": 20, "loss/value": 5}]


def test_a_metric_that_was_not_announced_is_refused(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv", METRICS, 0)
    with pytest.raises(ConfigError, match="policy/mine: no metric of this run"):
        file.write(1, {"policy/mine": 1.0})
    file.close()


def test_a_file_that_is_removed_comes_back_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    path.parent.mkdir()
    file = MetricsFile(path, METRICS, 0)
    file.write(1, {"loss/value": 1.0})
    shutil.rmtree(path.parent)
    file.write(2, {"loss/value": 2.0})
    file.write(3, {"loss/value": 3.0})
    file.close()
    assert steps_in(path) == [1, 2, 3]


class FullDisk:
    """Stands before a file, and takes half of what it is given before it fails."""

    def __init__(self, file) -> None:
        self.file = file

    def write(self, content: bytes) -> int:
        self.file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_rows_wait_for_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, METRICS, 0)
    file.write(1, {"loss/value": 1.0})
    whole, before = file._file, path.read_bytes()
    file._file = FullDisk(whole)
    with caplog.at_level(logging.WARNING):
        file.write(2, {"loss/value": 2.0})
        file.write(3, {"loss/value": 3.0})
    assert path.read_bytes() == before
    assert caplog.text.count("cannot be written: No space left on device; rows wait in memory") == 1
    file._file = whole
    file.write(4, {"loss/value": 4.0})
    file.close()
    assert steps_in(path) == [1, 2, 3, 4]


def test_a_record_that_cannot_be_replaced_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_record(None, "sqlite:////a/long/address/of/a/store.db")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    folder.write_record("0" * 32, "")
    assert folder.run_id() == "0" * 32
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
