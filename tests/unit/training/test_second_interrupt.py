"""A second Ctrl-C ends a run at once, and its message tells how to go on."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppolab.records.run_folder import RunFolder
from ppolab.training.callbacks.stopping import Stopping


def said(folder: Path, steps: int) -> str:
    """What a second signal says of a run of 100 steps that has taken `steps`."""
    problems: list[str] = []
    recorder: Any = SimpleNamespace(folder_was_lost=False, give_up=lambda problem, *_: problems.append(problem))
    stopping = Stopping(100, recorder, RunFolder(folder))
    group = SimpleNamespace(all_gather=lambda mine: [mine])
    module: Any = SimpleNamespace(steps=steps, group=group)
    trainer: Any = SimpleNamespace(should_stop=False)
    stopping.after_iteration(trainer, module, {})
    for _ in range(2):
        stopping.on_signal(signal.SIGINT, None)
    (problem,) = problems
    return problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.ckpt").touch()
    return tmp_path / "run"


def test_it_names_the_command_that_goes_on(folder: Path) -> None:
    assert said(folder, 50) == (
        "interrupted twice: nothing was saved since the last checkpoint; "
        f"go on with: ppolab-train resume={folder}"
    )  # fmt: skip


def test_it_names_the_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert said(tmp_path, 50).endswith(f"; there is no checkpoint to go on from in {tmp_path}")


def test_after_the_last_step_it_tells_what_is_missing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert said(folder, 100) == (
            f"interrupted twice: the last evaluation is missing; go on with: ppolab-train resume={folder}"
        )
    assert caplog.messages == ["SIGINT: ending after the last evaluation; once more to stop now"]
