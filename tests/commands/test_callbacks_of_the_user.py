"""The user's own callbacks, from the folder where the command is typed; and what train.log holds of user code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import ROOT, TINY, Answer, metric_rows, train, write_user_module
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import RunFolder

CALLBACKS = """
import pytorch_lightning as pl


class Diary(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        with open("diary.txt", "a") as file:
            print(module.steps, outputs["loss/value"], file=file)
        trainer.should_stop = trainer.should_stop or module.steps > 300


class Breaks(pl.Callback):
    def on_train_batch_end(self, *_):
        raise LookupError("no such lesson")
"""
SMALL = ("env=cartpole", *TINY, "total_steps=512", "logger=none", "logger.video=false", "hydra.run.dir=run")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_user_module(tmp_path)
    (tmp_path / "lessons.py").write_text(CALLBACKS)
    return tmp_path


def assert_one_line_and_a_traceback(answer: Answer, log: Path, line: str, *parts: str) -> None:
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[-1].startswith(line)
    assert "Traceback" not in answer.err
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    for part in parts:
        assert part in text


def test_a_callback_watches_and_stops_a_run_which_resumes_with_it_or_without(workspace: Path) -> None:
    answer = train(workspace, *SMALL, "callbacks=[lessons:Diary]")
    assert answer.code == 0, answer.err
    steps = [int(line.split()[0]) for line in (workspace / "diary.txt").read_text().splitlines()]
    trained = [int(row["step"]) for row in metric_rows(workspace / "run") if row["loss/value"]]
    assert steps == trained and 300 < steps[-1] < 512
    assert RunFolder(workspace / "run").is_finished and metric_rows(workspace / "run")[-1]["eval/return"]

    assert train(workspace, "resume=run").code == 0
    again = (workspace / "diary.txt").read_text().splitlines()
    assert len(again) == len(steps) + 1, "it was recorded, and stopped the run at once"
    assert train(workspace, "resume=run", "callbacks=[]").code == 0
    assert (workspace / "diary.txt").read_text().splitlines() == again
    assert int(metric_rows(workspace / "run")[-1]["step"]) >= 512


def test_an_exception_of_a_callback_is_one_line_and_a_traceback_in_the_log(workspace: Path) -> None:
    answer = train(workspace, *SMALL, "callbacks=[lessons:Breaks]")
    line = "ppolab: callbacks=[lessons:Breaks]: on_train_batch_end raised LookupError: no such lesson ("
    assert_one_line_and_a_traceback(
        answer, workspace / "run/train.log", line, 'raise LookupError("no such lesson")', "lessons.py"
    )
    assert f"{workspace / 'lessons.py'}, line " in answer.err


def test_an_exception_of_an_environment_is_in_the_log_with_its_traceback(workspace: Path) -> None:
    answer = train(workspace, "env.id=user_module:Breaks-v0", *SMALL[1:])
    line = "ppolab: user_module:Breaks-v0: environment 0 raised at its step 50"
    assert_one_line_and_a_traceback(
        answer, workspace / "run/train.log", line, 'raise RuntimeError("the simulator is on fire")', "user_module.py"
    )


def test_an_exception_of_an_optimizer_is_one_line_a_traceback_in_the_log_and_a_checkpoint(workspace: Path) -> None:
    shutil.copy(ROOT / "tests/support/sample_optimizers.py", workspace)
    own = ("optimizer.class=sample_optimizers:BreaksLate", "epochs=1", "minibatch_size=32", "checkpoint_interval=64")
    answer = train(workspace, *SMALL, *own)
    line = "ppolab: optimizer.class=sample_optimizers:BreaksLate: its step() raised LookupError: no such direction ("
    assert_one_line_and_a_traceback(
        answer, workspace / "run/train.log", line, 'raise LookupError("no such direction', "sample_optimizers.py"
    )
    kept = load_checkpoint(workspace / "run/checkpoints/last.ckpt").module
    assert 0 < kept["steps"] < 512 and not RunFolder(workspace / "run").is_finished


def test_a_mistake_leaves_no_folder(workspace: Path) -> None:
    answer = train(workspace, *SMALL, "callbacks=[lessons:Dairy]")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "ppolab: callbacks=[lessons:Dairy]: the module lessons has no Dairy; did you mean 'Diary'?\n"
    assert not (workspace / "run").exists()
