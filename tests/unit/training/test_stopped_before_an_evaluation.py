"""A signal stops a run in the iteration after which an evaluation is due: the run that goes on makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import small_config

from ppolab.errors import InterruptedRun
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import find_run
from ppolab.training.run import run

SETTINGS: dict[str, Any] = {"logger": "none", "total_steps": 320, "eval_episodes": 2, "logger.video": False}


def rows(folder: Path) -> list[dict[str, float]]:
    found = read_metrics(folder / "metrics.csv")
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in found]


@pytest.mark.parametrize(("eval_interval", "due"), [(180, True), (250, False)])
def test_the_run_that_goes_on_has_all_evaluations(eval_interval: int, due: bool, tmp_path: Path) -> None:
    settings = {**SETTINGS, "eval_interval": eval_interval}
    run(small_config(**settings), tmp_path / "whole")
    stopped = tmp_path / "stopped"
    with pytest.raises(InterruptedRun):
        run(small_config(**settings, callbacks=["sample_callbacks:InterruptInTraining"]), stopped)
    assert load_checkpoint(stopped / "checkpoints/last.ckpt").module["evaluation_due"] is due
    assert not any("eval/return" in row for row in rows(stopped)), "the stop waits for no evaluation"
    run(small_config(**settings), stopped, find_run("resume", str(stopped)))
    assert rows(stopped) == rows(tmp_path / "whole")
    ours, theirs = (load_checkpoint(folder / "checkpoints/last.ckpt") for folder in (stopped, tmp_path / "whole"))
    assert ours.best_return == theirs.best_return
    assert not ours.module["evaluation_due"]
