"""Compute aggregates, comparisons, profiles and curves from scores, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppolab.core.statistics import (
    Array,
    Bootstrap,
    Scores,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    run_median,
)
from ppolab.errors import ConfigError, nearest
from ppolab.reports.scores import Collection, Scored
from ppolab.reports.settings import ReportConfig

OVER_TASKS = "over tasks"
MOST_SHOWN = 12
"""So many methods, the best ones, are drawn and compared at most."""
THRESHOLDS = 101
POINTS = 200
"""Points of a learning curve."""

History = Callable[[Scored], Sequence[tuple[int, float]]]
"""The (step, value) points of a run's learning curve."""


@dataclass(frozen=True)
class Estimate:
    """Hold a number and its interval, which is NaN where a task has a single run."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregates:
    """Hold the aggregates of one method, on one task or over tasks."""

    task: str
    method: str
    runs: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Improvement:
    """Hold how likely a run of `method` beats one of `other`."""

    task: str
    method: str
    other: str
    chance: Estimate


@dataclass(frozen=True)
class Curve:
    """Hold a method's line with its band, which is NaN for a single run. All arrays are [points]."""

    task: str
    method: str
    x: Array
    y: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Results:
    """Hold all numbers that a report shows.

    Attributes:
        scaled: by run id, scores as they are compared over tasks. shown: the methods that are drawn.
    """

    scaled: Mapping[str, float]
    shown: Sequence[str]
    per_task: Sequence[Aggregates]
    over_tasks: Sequence[Aggregates]
    improvements: Sequence[Improvement]
    profiles: Sequence[Curve]
    curves: Sequence[Curve]


def results_of(found: Collection, settings: ReportConfig, history: History) -> Results:
    """Compute everything; `history` is asked for the runs whose curves are drawn.

    Raises:
        ConfigError: `baseline` names no method.
    """
    if settings.baseline is not None and settings.baseline not in found.methods:
        there = "; ".join(found.methods[:MOST_SHOWN])
        raise ConfigError(f"baseline={settings.baseline}: is no method{nearest(settings.baseline, found.methods)}; "
                          f"there are {there}")  # fmt: skip
    bootstrap = Bootstrap(settings.bootstrap, settings.confidence, settings.seed)
    scaled = scaled_scores(found, settings.normalize)
    shown = best_methods(found, scaled, settings.baseline)
    compared = _Compared(found, scaled, shown, bootstrap)
    return Results(
        scaled=scaled,
        shown=shown,
        per_task=[_on_task(found, task, method, scaled, bootstrap) for task in found.tasks for method in found.methods
                  if found.of(task, method)],
        over_tasks=compared.aggregates() if found.common_tasks else [],
        improvements=compared.improvements(settings.baseline),
        profiles=compared.profiles(),
        curves=[curve for task in found.tasks for curve in learning_curves(found, task, shown, history, bootstrap)],
    )  # fmt: skip


# --- scores ----------------------------------------------------------------------------------------------------------


def scaled_scores(found: Collection, normalize: str) -> dict[str, float]:
    """Return scores by run id: as they are, or per task with 0 at the lowest and 1 at the highest mean of a method."""
    scaled = {run.run.run_id: run.score for run in found.runs}
    if normalize == "none":
        return scaled
    for task in found.tasks:
        groups = [found.of(task, method) for method in found.methods if found.of(task, method)]
        lowest = min(run.score for group in groups for run in group)
        span = max(math.fsum(run.score for run in group) / len(group) for group in groups) - lowest
        for group in groups:  # where all scores are the same, none falls short of the best
            scaled |= {run.run.run_id: (run.score - lowest) / span if span > 0 else 1.0 for run in group}
    return scaled


def best_methods(found: Collection, scaled: Mapping[str, float], baseline: str | None) -> list[str]:
    """Return the methods to draw, in their usual order: those of the highest mean score, and the baseline."""
    means = {method: np.mean([scaled[run.run.run_id] for run in found.runs if run.method == method])
             for method in found.methods}  # fmt: skip
    ranked = sorted(found.methods, key=lambda method: (method != baseline, -means[method]))
    return [method for method in found.methods if method in ranked[:MOST_SHOWN]]


def _arrays(found: Collection, tasks: Sequence[str], method: str, scaled: Mapping[str, float]) -> list[Array]:
    return [np.array([scaled[run.run.run_id] for run in found.of(task, method)]) for task in tasks]


def _estimate(statistic: Callable[[Scores], Array], scores: Scores, bootstrap: Bootstrap) -> Estimate:
    low, high = bootstrap.interval(statistic, scores) if _is_repeated(scores) else (math.nan, math.nan)
    return Estimate(float(statistic(scores)), float(low), float(high))


def _is_repeated(*sides: Scores) -> bool:
    """Return whether every task has several runs: a resample of a single run is that run, without any width."""
    return all(len(task) > 1 for scores in sides for task in scores)


# --- aggregates ------------------------------------------------------------------------------------------------------


def _on_task(
    found: Collection, task: str, method: str, scaled: Mapping[str, float], bootstrap: Bootstrap
) -> Aggregates:
    """Return aggregates of scores as they are, but the gap of scaled ones, since it needs a best score."""
    runs = found.of(task, method)
    raw = [np.array([run.score for run in runs])]
    estimates = {"mean": mean, "median": run_median, "iqm": interquartile_mean}
    values = {name: _estimate(statistic, raw, bootstrap) for name, statistic in estimates.items()}
    gap = _estimate(optimality_gap, _arrays(found, [task], method, scaled), bootstrap)
    worst = Estimate(float(raw[0].min()), math.nan, math.nan)  # a resample has a better one or the same, never a worse
    return Aggregates(task, method, len(runs), {**values, "worst": worst, "gap": gap})


class _Compared:
    """Compare methods on the tasks that all have."""

    def __init__(
        self, found: Collection, scaled: Mapping[str, float], shown: Sequence[str], bootstrap: Bootstrap
    ) -> None:
        self._found = found
        self._shown = shown
        self._scaled = scaled
        self._bootstrap = bootstrap
        self._scopes: dict[str, Sequence[str]] = {OVER_TASKS: found.common_tasks} if found.common_tasks else {}
        self._scopes |= {task: [task] for task in found.tasks}

    def aggregates(self) -> list[Aggregates]:
        statistics = {"iqm": interquartile_mean, "median": median, "mean": mean, "gap": optimality_gap}
        rows = []
        for method in self._found.methods:
            scores = self._scores(self._found.common_tasks, method)
            values = {name: _estimate(statistic, scores, self._bootstrap) for name, statistic in statistics.items()}
            rows.append(Aggregates(OVER_TASKS, method, sum(map(len, scores)), values))
        return rows

    def improvements(self, baseline: str | None) -> list[Improvement]:
        """Return the improvement of every other method over the baseline, or of the better in every pair."""
        rows = []
        for scope, tasks in self._scopes.items():
            here = [method for method in self._shown if all(self._found.of(task, method) for task in tasks)]
            pairs = [(method, other) for i, method in enumerate(here) for other in here[i + 1 :]]
            if baseline is not None:
                pairs = [(method, baseline) for method in here if method != baseline and baseline in here]
            for method, other in pairs:
                mine, theirs = self._scores(tasks, method), self._scores(tasks, other)
                chance = self._chance(mine, theirs)
                if baseline is None and chance.value < 0.5:
                    method, other, chance = other, method, self._chance(theirs, mine)
                rows.append(Improvement(scope, method, other, chance))
        return rows

    def profiles(self) -> list[Curve]:
        """Return performance profiles over the range of the scores."""
        curves = []
        for scope, tasks in self._scopes.items():
            scores = {method: self._scores(tasks, method) for method in self._shown}
            scores = {method: arrays for method, arrays in scores.items() if all(map(len, arrays))}
            everything = np.concatenate([array for arrays in scores.values() for array in arrays] or [np.zeros(1)])
            thresholds = np.linspace(everything.min(), everything.max(), THRESHOLDS)
            curves += [self._profile(scope, method, arrays, thresholds) for method, arrays in scores.items()]
        return curves

    def _profile(self, scope: str, method: str, scores: Scores, thresholds: Array) -> Curve:
        def statistic(drawn: Scores) -> Array:
            return performance_profile(drawn, thresholds)

        unknown = np.full(THRESHOLDS, math.nan)
        low, high = self._bootstrap.interval(statistic, scores) if _is_repeated(scores) else (unknown, unknown)
        return Curve(scope, method, thresholds, statistic(scores), low, high)

    def _chance(self, mine: Scores, theirs: Scores) -> Estimate:
        low: Array | float = math.nan
        high: Array | float = math.nan
        if _is_repeated(mine, theirs):
            low, high = self._bootstrap.interval_of_pair(probability_of_improvement, mine, theirs)
        return Estimate(float(probability_of_improvement(mine, theirs)), float(low), float(high))

    def _scores(self, tasks: Sequence[str], method: str) -> list[Array]:
        return _arrays(self._found, tasks, method, self._scaled)


# --- learning curves -------------------------------------------------------------------------------------------------


def learning_curves(
    found: Collection, task: str, methods: Sequence[str], history: History, bootstrap: Bootstrap
) -> list[Curve]:
    """Return the mean over each method's runs, on steps that methods share and as far as all runs of a method go."""
    points = {method: [_finite(history(run)) for run in found.of(task, method)] for method in methods}
    points = {method: kept for method, runs in points.items() if (kept := [run for run in runs if len(run[0])])}
    if not points:
        return []
    everywhere = [steps for runs in points.values() for steps, _ in runs]
    grid = np.unique(np.linspace(min(s[0] for s in everywhere), max(s[-1] for s in everywhere), POINTS))
    curves = []
    for method, runs in points.items():
        first, last = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
        if first > last:
            continue
        x = np.unique([*grid[(grid >= first) & (grid <= last)], last])
        lines = np.stack([np.interp(x, steps, values) for steps, values in runs])
        unknown = np.full(len(x), math.nan)
        low, high = bootstrap.band(lines) if len(lines) > 1 else (unknown, unknown)
        curves.append(Curve(task, method, x, lines.mean(axis=0), low, high))
    return curves


def _finite(points: Sequence[tuple[int, float]]) -> tuple[Array, Array]:
    """Return steps and values; before the first episode has ended there is no return."""
    kept = np.array([point for point in points if math.isfinite(point[1])], dtype=np.float64).reshape(-1, 2)
    return kept[:, 0], kept[:, 1]
