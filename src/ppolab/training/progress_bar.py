"""Show on the terminal how far a run is; nothing where there is no terminal."""

from __future__ import annotations

import sys
import time

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ppolab.records.wording import shown
from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.module import OnPolicyModule

REFRESH_SECONDS = 0.5
LINE_SECONDS = 2.0
COLUMNS = {
    "return": "train/return", "policy loss": "loss/policy", "value loss": "loss/value", "KL": "policy/kl",
    "epochs": "policy/epochs", "entropy": "policy/entropy", "explained": "value/explained_variance",
}  # fmt: skip
"""Heading and metric of each column of `progress=full`."""
LINES_PER_HEADING = 20


class ProgressBar(IterationCallback):
    """Show steps, percent, return, steps per second and time left, on one line of the terminal."""

    def __init__(self, total_steps: int, first_step: int, kind: str = "bar") -> None:
        console = Console(file=sys.stderr)
        self._full = kind == "full"
        self._lines = 0
        self._told = -LINE_SECONDS
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
            disable=kind == "off" or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=first_step, shown_return="-", speed="-")
        self._drawn = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Show the bar."""
        self._progress.start()

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Show the state after an iteration; draws at most twice a second."""
        reached = shown(metrics["train/return"]) if "train/return" in metrics else "-"
        speed = f"{metrics['time/steps_per_second']:,.0f}"
        self._progress.update(self._task, completed=module.steps, shown_return=reached, speed=speed)
        if self._full and time.monotonic() - self._told >= LINE_SECONDS:
            self._print_line(module.steps, metrics)
            self._told = time.monotonic()
        if time.monotonic() - self._drawn > REFRESH_SECONDS:
            self._progress.refresh()
            self._drawn = time.monotonic()

    def _print_line(self, steps: int, metrics: dict[str, float]) -> None:
        """Print a row of the table, above the bar where there is one."""
        if self._lines % LINES_PER_HEADING == 0:
            self._print("".join(f"{name:>13}" for name in ("steps", *COLUMNS)))
        values = (f"{metrics[name]:.4g}" if name in metrics else "-" for name in COLUMNS.values())
        self._print(f"{steps:>13,}" + "".join(f"{value:>13}" for value in values))
        self._lines += 1

    def _print(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def after_training(self, module: OnPolicyModule) -> None:
        """Leave the bar as it is now."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the bar as it is now."""
        self._stop()

    def _stop(self) -> None:
        self._progress.refresh()
        self._progress.stop()


def announce(what: str) -> None:
    """Say on a terminal what keeps a run busy once its progress bar has come to the end."""
    console = Console(file=sys.stderr)
    if console.is_terminal:
        console.print(f"{what} ...", highlight=False, markup=False)
