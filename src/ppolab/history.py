"""A run's own record of its metrics: a CSV file beside the tracking store, and the learning curve drawn from it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from ppolab.config import METRICS

COLUMNS = ("step", *METRICS)


class MetricsFile:
    """Appends one row per logged step; every row is on disk before the next iteration."""

    def __init__(self, path: Path, first_step: int) -> None:
        """`first_step`: a resumed run drops rows beyond its checkpoint, since it will write them again."""
        kept = _rows_until(path, first_step) if path.is_file() else []
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row; metrics that were not measured at this step stay empty."""
        self._writer.writerow({"step": step, **metrics})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, each with the columns that were measured."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _rows_until(path: Path, last_step: int) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if float(row["step"]) <= last_step]


def plot_learning_curve(metrics: Path, title: str, target: Path) -> None:
    """Draw train/return and eval/return over environment steps as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window system

    rows = read_metrics(metrics)
    training = [(row["step"], row["train/return"]) for row in rows if "train/return" in row]
    evaluated = [(row["step"], row["eval/return"], row["eval/return_std"]) for row in rows if "eval/return" in row]
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    if training:
        axes.plot(*zip(*training, strict=True), label="training, mean of the last 100 episodes", linewidth=1.2)
    if evaluated:
        steps, means, deviations = zip(*evaluated, strict=True)
        axes.errorbar(steps, means, deviations, fmt="o", markersize=4, capsize=3, label="evaluation, deterministic")
    axes.set(title=title, xlabel="environment steps", ylabel="return")
    axes.grid(alpha=0.3)
    if training or evaluated:
        axes.legend()
    figure.savefig(target)
