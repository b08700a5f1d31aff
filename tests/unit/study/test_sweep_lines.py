"""What a sweep prints between the ends of its runs: one line that is drawn again on a terminal, few lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ppolab.records.run_folder import RunFolder
from ppolab.study import sweep_lines
from ppolab.study.sweep_lines import SweepLines, updating


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[str, RunFolder]]:
    begun = RunFolder(tmp_path)
    begun.config.write_text("total_steps: 1000\n")
    begun.metrics.write_text("step,train/return,eval/return\n420,187.04,\n")
    return [("clip=0.1 seed=0", begun), ("clip=0.1 seed=1", RunFolder(tmp_path / "not yet"))]


LINE = "2 running, 3 of 12 done | clip=0.1 seed=0 42% return 187.0 | clip=0.1 seed=1 starts"


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sweep_lines.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))


def test_elsewhere_a_line_comes_after_a_while_of_silence(
    clock: Clock, runs: list[tuple[str, RunFolder]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = SweepLines(12, clock=clock)
    lines.started("job 0 started")
    clock.now += 24
    lines.update(runs, 3)
    assert capsys.readouterr().out == "job 0 started\n"
    clock.now += 1
    lines.update(runs, 3)
    lines.update(runs, 3)
    assert capsys.readouterr().out == f"{LINE}\n"
    clock.now += 20
    lines.ended("job 0 complete")
    clock.now += 20
    lines.update(runs, 4)
    lines.close()
    assert capsys.readouterr().out == "job 0 complete\n", "another line is a sign of life, too"


def test_a_terminal_has_one_line_that_is_drawn_again(
    clock: Clock,
    runs: list[tuple[str, RunFolder]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal(monkeypatch, 200)
    lines = SweepLines(12, clock=clock)
    lines.started("job 0 started")
    lines.update(runs, 3)
    lines.update(runs, 3)
    clock.now += 1
    lines.update(runs, 3)
    lines.ended("job 0 complete")
    lines.update(runs, 4)
    lines.close()
    assert capsys.readouterr().out == (
        f"\r\x1b[K{LINE}\r\x1b[K{LINE}\r\x1b[Kjob 0 complete\n\r\x1b[K{LINE.replace('3 of', '4 of')}\r\x1b[K"
    )


def test_a_narrow_terminal_gets_what_fits(
    clock: Clock,
    runs: list[tuple[str, RunFolder]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal(monkeypatch, 41)
    SweepLines(12, clock=clock).update(runs, 3)
    assert capsys.readouterr().out == "\r\x1b[K2 running, 3 of 12 done | clip=0.1 seed…"


def test_without_progress_only_ends_are_told(
    clock: Clock, runs: list[tuple[str, RunFolder]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = SweepLines(12, shown=False, clock=clock)
    lines.started("job 0 started")
    clock.now += 1000
    lines.update(runs, 3)
    lines.ended("job 0 complete")
    assert capsys.readouterr().out == "job 0 complete\n"


def test_somebody_elses_loop_is_watched_from_a_thread(
    runs: list[tuple[str, RunFolder]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_lines, "REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(sweep_lines, "QUIET_SECONDS", 0.02)
    with updating(SweepLines(12), lambda: (runs, 3)):
        time.sleep(0.2)
    printed = capsys.readouterr().out.splitlines()
    assert set(printed) == {LINE}
    time.sleep(0.05)
    assert capsys.readouterr().out == "", "the thread has ended with the block"
