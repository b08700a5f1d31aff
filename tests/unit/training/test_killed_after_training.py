"""A run that is killed after its last step lacks its last evaluation, and a resume makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import small_config

from ppolab.errors import ConfigError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder, find_run, unfinished_run
from ppolab.training import closing
from ppolab.training.callbacks import evaluating
from ppolab.training.run import run

SETTINGS: dict[str, Any] = {
    "logger": "none", "total_steps": 192, "eval_interval": 0, "eval_episodes": 2, "logger.video": False,
}  # fmt: skip


class Killed(BaseException):
    """What nobody catches."""


def kill(*_: object, **__: object) -> None:
    raise Killed


def rows(folder: Path) -> list[dict[str, float]]:
    found = read_metrics(folder / "metrics.csv")
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in found]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    run(small_config(**SETTINGS), tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize(
    ("module", "name", "evaluations"), [(evaluating, "evaluate_policy", 0), (closing, "plot_learning_curve", 1)]
)
def test_a_resume_finishes_it(
    module: Any, name: str, evaluations: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outputs" / "cut"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(module, name, kill)
        if module is closing:  # as if killed between the evaluation and the record of the end
            patched.setattr("ppolab.training.recorder.RunRecorder.complete", kill)
        run(small_config(**SETTINGS), folder)
    assert sum("eval/return" in row for row in rows(folder)) == evaluations
    found = unfinished_run(lambda _: True, tmp_path / "outputs")
    assert found is not None and found.path == folder
    result = run(small_config(**SETTINGS), folder, find_run("resume", str(folder)))
    assert result is not None
    assert (result.new_steps, result.metrics["eval/return"]) == (0, rows(whole)[-1]["eval/return"])
    assert rows(folder) == rows(whole)
    assert RunFolder(folder).is_finished
    ours, theirs = (load_checkpoint(each / "checkpoints/last.ckpt") for each in (folder, whole))
    assert ours.best_return == theirs.best_return


def test_a_new_run_does_not_take_the_folder_of_another(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir=.*whole: holds a run already; go on with: .* or remove"):
        run(small_config(**SETTINGS, seed=7), whole)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_folder_without_a_checkpoint_may_be_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("ppolab.training.module.OnPolicyModule.training_step", kill)
        run(small_config(**SETTINGS), tmp_path)
    assert run(small_config(**SETTINGS), tmp_path) is not None


def test_a_finished_run_needs_more_steps(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"total_steps=192: the run has already taken 192 steps"):
        run(small_config(**SETTINGS), whole, find_run("resume", str(whole)))


def test_the_checkpoint_before_the_last_evaluation_leaves_no_second_file(whole: Path) -> None:
    """`keep_checkpoints` counts checkpoints of different steps."""
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
