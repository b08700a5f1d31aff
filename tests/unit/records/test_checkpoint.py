"""Files of checkpoints: whole, or the one before."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from ppolab.errors import CheckpointError, ConfigError
from ppolab.records.checkpoint import Checkpoint, earlier, load_checkpoint, load_newest, save_checkpoint
from ppolab.records.run_folder import RunFolder, find_run, unfinished_run


def numbered(number: int) -> Checkpoint:
    return Checkpoint(f"number: {number}", {"steps": number}, None, None)


def saved(path: Path, count: int, keep: int) -> None:
    for number in range(count):
        save_checkpoint(numbered(number), path, keep)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    state = {
        "array": np.arange(6.0).reshape(2, 3), "bytes": np.frombuffer(b"abc", dtype=np.uint8).copy(),
        "scalar": np.array(2.5), "bools": np.array([True, False]), "empty": np.zeros((0, 3)),
        "large": 2**127 - 1, "list": [None, 1.5, "text", (1, 2)], "tensor": torch.arange(3),
        "keys": np.arange(3, dtype=np.uint32), "steps": 3,
    }  # fmt: skip
    save_checkpoint(Checkpoint("a: 1", state, 2.0, "id"), tmp_path / "last.ckpt")
    found = load_checkpoint(tmp_path / "last.ckpt")
    assert (found.config, found.best_return, found.run_id) == ("a: 1", 2.0, "id")
    assert found.module.keys() == state.keys()
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            assert found.module[key].dtype == value.dtype and found.module[key].shape == value.shape
            assert (found.module[key] == value).all()
        elif isinstance(value, torch.Tensor):
            assert found.module[key].equal(value)
        else:
            assert found.module[key] == value


def test_as_many_are_kept_as_asked_for_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    saved(path, 5, keep=3)
    assert [load_checkpoint(earlier(path, age)).module["steps"] for age in range(3)] == [4, 3, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last-1.ckpt", "last-2.ckpt", "last.ckpt"]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None], ids=["empty", "foreign", "truncated"])
def test_a_damaged_file_is_answered_with_the_one_before_it(
    damage: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.ckpt"
    saved(path, 3, keep=3)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert load_newest(path).module["steps"] == 1
    assert "is damaged" in caplog.text and "going on from the one before it" in caplog.text
    earlier(path, 1).write_bytes(b"")
    assert load_newest(path).module["steps"] == 0
    earlier(path, 2).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is damaged"):
        load_newest(path)


def run_in(outputs: Path, name: str, **record: bool) -> RunFolder:
    folder = RunFolder(outputs / name)
    folder.path.mkdir(parents=True)
    folder.config.write_text("seed: 1\n")
    save_checkpoint(numbered(0), folder.checkpoint("last"))
    folder.write_record(None, "", **record)
    return folder


def test_the_newest_unfinished_run_is_found(tmp_path: Path) -> None:
    assert unfinished_run(lambda _: True, tmp_path) is None
    first = run_in(tmp_path, "first")
    run_in(tmp_path, "ended", finished=True)
    assert unfinished_run(lambda _: True, tmp_path) == first
    second = run_in(tmp_path, "second")
    assert unfinished_run(lambda _: True, tmp_path) == second
    assert unfinished_run(lambda folder: folder != second, tmp_path) == first
    with second.held():
        assert unfinished_run(lambda _: True, tmp_path) == first


def test_nobody_trains_a_run_that_is_being_trained(tmp_path: Path) -> None:
    folder = run_in(tmp_path, "run")
    with folder.held(), pytest.raises(ConfigError, match="another process is training this run"), folder.held():
        pass
    with folder.held():
        pass


def test_a_run_is_found_by_its_folder_by_what_is_in_it_and_from_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    run.checkpoint("last").parent.mkdir(parents=True)
    run.config.touch()
    run.checkpoint("last").touch()
    monkeypatch.chdir(run.checkpoint("last").parent)
    for value in ("..", ".", "last.ckpt", run.path, run.path / "checkpoints", run.checkpoint("last")):
        assert find_run("resume", str(value)).checkpoint.resolve() == run.checkpoint("last"), value
