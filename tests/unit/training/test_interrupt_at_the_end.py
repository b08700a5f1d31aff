"""Ctrl-C while the records of a run are being closed costs none of them."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import small_config

from ppolab.records.metrics_file import MetricsFile
from ppolab.records.run_folder import RunFolder
from ppolab.records.tracking import NoTracker
from ppolab.training import recorder as module
from ppolab.training.recorder import recorded_run


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Store(NoTracker):
    """Note how the run is marked; may be interrupted in the wait for it."""

    def __init__(self, *, is_slow: bool) -> None:
        self.tags: list[dict[str, str]] = []
        self.marked: list[str] = []
        self._is_slow = is_slow

    def set_tags(self, tags: Any) -> None:
        self.tags.append(dict(tags))

    def close(self, status: Any, timeout: float = 30.0) -> Any:
        self.marked.append(status)
        if self._is_slow:
            interrupt()
        return SimpleNamespace(unsent_metrics=0, unsent_artifacts=0)


def record(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, *, is_complete: bool = True) -> None:
    monkeypatch.setattr(module, "MlflowTracker", lambda *_, **_named: store)
    config = small_config(**{"logger.tracking_uri": f"sqlite:///{folder}/mlflow.db"})
    with recorded_run(config, RunFolder(folder), None, None) as recorder:
        if is_complete:
            recorder.complete(pruned=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_before_the_records_are_sent_it_is_not_heeded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, close = Store(is_slow=False), MetricsFile.close

    def close_and_interrupt(file: MetricsFile) -> None:
        interrupt()
        close(file)

    monkeypatch.setattr(MetricsFile, "close", close_and_interrupt)
    record(folder, store, monkeypatch)
    assert store.marked == ["FINISHED"]
    assert "Finished after 0 steps." in store.tags[-1]["mlflow.note.content"]


def test_while_a_complete_run_is_sent_it_is_complete(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(is_slow=True)
    with caplog.at_level(logging.WARNING):
        record(folder, store, monkeypatch)
    assert caplog.messages == [f"interrupted after the last step: the run is complete: {folder}"]
    assert RunFolder(folder).is_finished


def test_while_another_run_is_sent_it_is_heeded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(is_slow=True)
    with pytest.raises(KeyboardInterrupt):
        record(folder, store, monkeypatch, is_complete=False)
    assert store.marked == ["FAILED"]
    assert not RunFolder(folder).is_finished
