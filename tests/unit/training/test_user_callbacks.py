"""Lightning callbacks that the user names."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import probe_envs  # noqa: F401
import pytest
import sample_callbacks
from helpers import tiny_config

from ppolab.config.schema import Config
from ppolab.errors import CallbackError, ConfigError, InterruptedRun
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.training import closing
from ppolab.training.callbacks import evaluating
from ppolab.training.result import RunResult
from ppolab.training.run import run
from ppolab.training.user_callbacks import user_callbacks


def config_of(*names: str, **settings: Any) -> Config:
    callbacks = [f"sample_callbacks:{name}" for name in names]
    small = {"total_steps": 96, "eval_episodes": 1, "logger": "none"}
    return tiny_config("probe/Diary-v0", callbacks=callbacks, **small, **settings)


def result_of(folder: Path, *names: str, **settings: Any) -> RunResult:
    result = run(config_of(*names, **settings), folder)
    assert result is not None
    return result


def test_a_callback_sees_every_iteration_and_its_metrics(tmp_path: Path) -> None:
    sample_callbacks.diary.seen.clear()
    result_of(tmp_path, "diary")
    rows = [row for row in read_metrics(tmp_path / "metrics.csv") if "loss/value" in row]
    assert len(rows) >= 3
    assert sample_callbacks.diary.seen == [
        (row["step"], {key: value for key, value in row.items() if key != "step"}) for row in rows
    ]


def test_callbacks_come_in_the_order_in_which_they_are_named() -> None:
    named = ["sample_callbacks:diary", "sample_callbacks:StopAtLength"]
    assert [type(callback).__name__ for callback in user_callbacks(named)] == ["Diary", "StopAtLength"]


def test_a_run_that_a_callback_stops_is_finished_evaluated_and_saved(tmp_path: Path) -> None:
    result = result_of(tmp_path, "StopAtLength")
    assert 0 < result.steps <= 32 and not result.pruned
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv") if "eval/return" in row] == [result.steps]
    assert load_checkpoint(tmp_path / "checkpoints/last.ckpt").module["steps"] == result.steps
    assert (tmp_path / "checkpoints/best.ckpt").is_file()
    assert RunFolder(tmp_path).is_finished


def test_an_exception_names_callback_hook_and_line(tmp_path: Path) -> None:
    with pytest.raises(CallbackError) as raised:
        result_of(tmp_path, "Breaks")
    told = str(raised.value)
    assert told.startswith(
        "callbacks=[sample_callbacks:Breaks]: on_train_batch_end raised LookupError: no such lesson ("
    )
    assert "sample_callbacks.py, line " in told and "\n" not in told
    assert isinstance(raised.value.__cause__, LookupError)


MISTAKES = {
    "sample_callbacks": "must be MODULE:NAME, such as callbacks=[my_package:MyCallback]",
    "os.system('x'):Y": "must be MODULE:NAME, such as callbacks=[my_package:MyCallback]",
    "no_such_module:Diary": "the module 'no_such_module' cannot be imported; install it",
    "sample_callbacks:Dairy": "the module sample_callbacks has no Dairy; did you mean 'diary'?",
    "sample_callbacks:NoCallback": "must be a pytorch_lightning.Callback, not NoCallback",
    "sample_callbacks:NeedsArgument": "NeedsArgument() raised TypeError",
    "os:sep": "must be a pytorch_lightning.Callback, not str",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(name: str, tmp_path: Path) -> None:
    config = replace(config_of(), callbacks=[name])
    with pytest.raises(ConfigError) as raised:
        run(config, tmp_path / "run")
    assert str(raised.value).startswith(f"callbacks=[{name}]: {MISTAKES[name]}")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


# --- interrupts ------------------------------------------------------------------------------------------------------


def test_an_interrupt_in_training_saves_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun, match=r"everything is saved; go on with: .*resume=") as raised:
        result_of(tmp_path, "InterruptInTraining")
    steps = load_checkpoint(tmp_path / "checkpoints/last.ckpt").module["steps"]
    assert f"stopped after {steps:,} of 96 steps" in str(raised.value)
    assert steps < 96 and not RunFolder(tmp_path).is_finished


def test_the_checkpoint_before_the_last_evaluation_has_the_states_of_callbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(evaluating, "evaluate_policy", killed)
    with pytest.raises(RuntimeError, match="killed"):
        result_of(tmp_path, "Counts")
    module = load_checkpoint(tmp_path / "checkpoints/last.ckpt").module
    assert [state["count"] for state in module["callbacks"].values()] == [module["iteration"]]


def test_an_interrupt_after_the_last_step_leaves_out_the_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = result_of(tmp_path, "InterruptAtTheEnd", **{"logger.video": True})
    assert result.steps >= 96 and RunFolder(tmp_path).is_finished
    assert not (tmp_path / "learning_curve.png").exists()
    assert f"the run is complete, but not all of its pictures: {tmp_path}" in caplog.text


def test_an_interrupt_of_the_film_leaves_a_finished_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> float:
        assert RunFolder(tmp_path).is_finished, "already, whatever comes"
        raise KeyboardInterrupt

    monkeypatch.setattr(closing, "record_video", interrupted)
    with caplog.at_level(logging.WARNING):
        result = result_of(tmp_path, **{"logger.video": True})
    assert result.steps >= 96 and RunFolder(tmp_path).is_finished
    assert (tmp_path / "learning_curve.png").is_file()
    assert f"the run is complete, but not all of its pictures: {tmp_path}" in caplog.text
