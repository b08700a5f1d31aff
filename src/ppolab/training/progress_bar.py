"""What a terminal shows while a run is under way; nothing where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

REFRESH_SECONDS = 0.1


class ProgressDisplay:
    """Steps, percent, return, steps per second and time left, on one line of the terminal."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        console = Console(file=sys.stderr)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.completed:>11,.0f} / {task.total:,.0f} steps"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("return {task.fields[shown_return]}"),
            TextColumn("{task.fields[speed]} steps/s"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,  # its refresh thread would take a share of the simulators' core
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=first_step, shown_return="-", speed="-")
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.refresh()
        self._progress.stop()

    def update(self, steps: int, metrics: Mapping[str, float]) -> None:
        """Show the state after an iteration; draws at most ten times a second."""
        shown = f"{metrics['train/return']:,.1f}" if "train/return" in metrics else "-"
        speed = f"{metrics['time/steps_per_second']:,.0f}"
        self._progress.update(self._task, completed=steps, shown_return=shown, speed=speed)
        if time.monotonic() - self._drawn > REFRESH_SECONDS:
            self._progress.refresh()
            self._drawn = time.monotonic()
