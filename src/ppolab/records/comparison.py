"""Compare the metrics of two runs, number by number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ppolab.records.metrics_file import metric_columns, read_metrics

TIMES = "time/"
"""Metrics of this kind are measured by the clock, and never equal."""


@dataclass(frozen=True)
class Difference:
    """Hold the first number in which two runs differ; None stands for a metric that one did not measure there."""

    step: int
    metric: str
    before: float | None
    now: float | None


@dataclass(frozen=True)
class Comparison:
    """Hold what a comparison of two runs found.

    Attributes:
        values: how many numbers were compared and found equal.
        up_to: the last step that both have reached.
        same_length: whether both end there.
        difference: the first one, by step; None if all numbers are equal.
        only_in_one: metrics that only one of the runs knows; they are not compared.
    """

    values: int
    up_to: int
    same_length: bool
    difference: Difference | None
    only_in_one: tuple[str, ...]


def compare_metrics(before: Path, now: Path) -> Comparison:
    """Compare two metrics files, bit for bit and without times, up to the last step that both have.

    Where one run ends earlier, it was evaluated there and the other one was not: this is no difference.
    """
    columns = {path: [name for name in metric_columns(path) if not name.startswith(TIMES)] for path in (before, now)}
    shared = [name for name in columns[before] if name in columns[now]]
    only_in_one = tuple(sorted(set(columns[before]) ^ set(columns[now])))
    first, second = _by_step(before), _by_step(now)
    ends = max(first, default=0), max(second, default=0)
    up_to, same_length = min(ends), ends[0] == ends[1]
    values = 0
    for step in sorted({*first, *second}):
        if step > up_to:
            break
        for name in shared:
            one, other = first.get(step, {}).get(name), second.get(step, {}).get(name)
            if step == up_to and not same_length and None in (one, other):
                continue
            if not _equal(one, other):
                return Comparison(values, up_to, same_length, Difference(step, name, one, other), only_in_one)
            values += one is not None
    return Comparison(values, up_to, same_length, None, only_in_one)


def _by_step(path: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for row in read_metrics(path):
        found.setdefault(int(row["step"]), {}).update(row)
    return found


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))
