"""Settings whose effect only a whole run shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import run_small

from ppolab.training import recorder
from ppolab.training.result import RunResult


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_small(tmp_path_factory.mktemp("plain"))


def test_checkpoint_interval_sets_how_often_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = recorder.save_checkpoint
    monkeypatch.setattr(
        recorder, "save_checkpoint", lambda state, path, keep: (written.append(path.stem), original(state, path, keep))
    )
    counts = {}
    for interval in (0, 300, 100):
        written.clear()
        run_small(tmp_path / str(interval), checkpoint_interval=interval)
        counts[interval] = written.count("last")
    assert counts[0] == 2  # before the last evaluation, which may be interrupted, and after it
    assert counts[0] < counts[300] < counts[100]


def test_keep_checkpoints_sets_how_many_there_are(tmp_path: Path) -> None:
    for count in (1, 3):
        run_small(tmp_path / str(count), checkpoint_interval=100, keep_checkpoints=count)
        names = {path.stem for path in (tmp_path / str(count) / "checkpoints").glob("last*")}
        assert names == {"last", "last-1", "last-2"} if count == 3 else names == {"last"}


def test_threads_sets_those_of_torch(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for setting, threads in ((2, 2), (0, 1)):
            run_small(tmp_path / str(setting), **{"trainer.threads": setting})
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_video_is_recorded_when_asked_for(plain_run: RunResult, tmp_path: Path) -> None:
    run_small(tmp_path, **{"logger.video": True})
    assert (tmp_path / "video.mp4").stat().st_size > 1000
    assert not (plain_run.folder.path / "video.mp4").exists()
