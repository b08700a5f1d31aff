"""Event files for TensorBoard."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from helpers import make_config

from ppolab.errors import ConfigError
from ppolab.records.run_folder import RunFolder
from ppolab.training.recorder import recorded_run
from ppolab.training.tensorboard_events import TensorBoardEvents, check_tensorboard

pytest.importorskip("tensorboard")


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_a_resumed_run_has_each_point_once(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    first = TensorBoardEvents(folder, {"clip": 0.2}, [])
    for step in (100, 200, 300):
        first.log_metrics({"train/return": float(step)}, step)
    first.close()
    second = TensorBoardEvents(folder, {"clip": 0.2}, [(100, {"train/return": 100.0}), (200, {"train/return": 200.0})])
    second.log_metrics({"train/return": -1.0}, 300)
    second.close()
    assert points(folder, "train/return") == [(100, 100.0), (200, 200.0), (300, -1.0)]


def test_a_run_writes_events_beside_mlflow_only_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppolab.training.recorder.resolve_tracking_uri", lambda uri, folder: None)
    for kind in ("tensorboard", "mlflow", "none"):
        files = RunFolder(tmp_path / kind)
        files.path.mkdir()
        with recorded_run(make_config(env="cartpole", logger=kind), files, None, None) as recorder:
            recorder.record(64, {"loss/value": 0.5})
            recorder.complete(pruned=False)
    assert points(tmp_path / "tensorboard" / "tensorboard", "loss/value") == [(64, 0.5)]
    assert [(tmp_path / kind / "tensorboard").exists() for kind in ("mlflow", "none")] == [False, False]


def test_a_missing_package_is_answered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_tensorboard(make_config(env="cartpole", logger="none"))
    with pytest.raises(ConfigError, match=r"pip install 'ppolab\[tensorboard\]'"):
        check_tensorboard(make_config(env="cartpole", logger="tensorboard"))
