"""Draw the learning curve of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ppolab.records.metrics_file import read_metrics


def plot_learning_curve(metrics: Path, title: str, target: Path) -> None:
    """Draw train/return and eval/return over environment steps as a PNG."""
    draw_learning_curve(read_metrics(metrics), title, target)


def draw_learning_curve(rows: Sequence[dict[str, float]], title: str, target: Path | IO[bytes]) -> None:
    """Draw the rows of a metrics file as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window system

    training = [(row["step"], row["train/return"]) for row in rows if "train/return" in row]
    evaluated = [(row["step"], row["eval/return"], row["eval/return_std"]) for row in rows if "eval/return" in row]
    figure = Figure(figsize=(7, 4), dpi=110)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.12, right=0.97, top=0.92, bottom=0.13)  # a layout of its own would draw all twice
    if training:
        axes.plot(*zip(*training, strict=True), label="training, mean of the latest episodes", linewidth=1.2)
    if evaluated:
        steps, means, deviations = zip(*evaluated, strict=True)
        axes.errorbar(steps, means, deviations, fmt="o", markersize=4, capsize=3, label="evaluation, deterministic")
    axes.set(title=title, xlabel="environment steps", ylabel="return")
    axes.grid(alpha=0.3)
    if training or evaluated:
        axes.legend()
    figure.savefig(target)
