"""A run that goes on keeps its name: that of a grid's run says what was varied."""

from __future__ import annotations

from pathlib import Path

from small_runs import run_small, small_config

from ppolab.records.run_folder import RunFolder, find_run
from ppolab.training.run import run


def test_a_run_of_a_grid_that_is_resumed_alone_keeps_its_name(tmp_path: Path) -> None:
    run_small(tmp_path, total_steps=256)
    assert RunFolder(tmp_path).name() == "Pendulum-v1-seed0"
    RunFolder(tmp_path).write_record(None, "", name="Pendulum-v1 clip=0.1")
    longer = small_config(logger="none", total_steps=512, eval_interval=200, eval_episodes=2)
    run(longer, tmp_path, find_run("resume", str(tmp_path)))
    assert RunFolder(tmp_path).name() == "Pendulum-v1 clip=0.1"
