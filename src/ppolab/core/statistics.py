"""Judge a method from a few runs on a few tasks, with intervals (Agarwal et al. 2021, arXiv:2108.13264).

`scores` is a sequence with one array per task, [..., n], whose last axis holds the runs of that task; tasks may have
different numbers of runs. Leading axes are resamples, so that one call of a statistic serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Any]
"""Scores [..., n] of every task -> [...], or [..., T] for a curve."""


def mean(scores: Scores) -> Array:
    """Return the mean over tasks of the mean over runs. Section 2 of the paper."""
    return np.asarray(_task_means(scores).mean(axis=0))


def median(scores: Scores) -> Array:
    """Return the median over tasks of the mean over runs; blind to half of the tasks. Section 2 of the paper."""
    return np.median(_task_means(scores), axis=0)


def run_median(scores: Scores) -> Array:
    """Return the median over all runs. For a single task, where `median` would be its mean."""
    return np.median(_pooled(scores), axis=-1)


def interquartile_mean(scores: Scores) -> Array:
    """Return the mean over all runs of all tasks without the lowest and the highest quarter. Section 4.3 of the paper.

    Of n runs floor(n / 4) are left out at either end, as in the authors' own code, so of up to three runs none. A task
    weighs as much as it has runs. Reports and studies judge seeds by this one definition.
    """
    ordered = np.sort(_pooled(scores), axis=-1)
    count = ordered.shape[-1]
    cut = count // 4
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> Array:
    """Return how far runs fall short of the score `gamma` on average. Section 4.3 of the paper.

    A score above `gamma` counts as `gamma`.
    """
    return np.asarray(gamma - _task_means([np.minimum(task, gamma) for task in scores]).mean(axis=0))


def probability_of_improvement(scores: Scores, others: Scores) -> Array:
    """Return how likely a run of one method beats a run of another on a task drawn at random. Section 4.3 of the paper.

    Per task U / (n m), with the Mann-Whitney statistic U of n runs against m, in which a tie counts half; then the mean
    over tasks.
    """
    pairs = [(mine[..., :, None], theirs[..., None, :]) for mine, theirs in zip(scores, others, strict=True)]
    wins = [((mine > theirs) + 0.5 * (mine == theirs)).mean(axis=(-2, -1)) for mine, theirs in pairs]
    return np.asarray(np.mean(wins, axis=0))


def performance_profile(scores: Scores, thresholds: Array) -> Array:
    """Return the fraction of runs that score above each of the `thresholds` [T]: [..., T]. Section 4.2 of the paper.

    The mean over tasks of the fraction of a task's runs.
    """
    above = [(task[..., None] > thresholds).mean(axis=-2) for task in scores]
    return np.asarray(np.mean(above, axis=0))


@dataclass(frozen=True)
class Bootstrap:
    """Make intervals by resampling runs.

    Attributes:
        resamples: number of resamples.
        confidence: share of them that an interval holds.
        seed: of the random draws.
            Every interval starts from this seed, so it does not depend on which others are computed.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def interval(self, statistic: Statistic, scores: Scores) -> tuple[Array, Array]:
        """Return the low and the high end for `statistic(scores)`, by stratified percentile bootstrap.

        Runs are drawn with replacement within each task, and independently between tasks. Section 3 of the paper.
        """
        rng = np.random.default_rng(self.seed)
        return self._ends(statistic([self._drawn(task, rng) for task in scores]))

    def interval_of_pair(
        self, statistic: Callable[[Scores, Scores], Array], scores: Scores, others: Scores
    ) -> tuple[Array, Array]:
        """Return the low and the high end for `statistic(scores, others)`; the runs of both are drawn independently."""
        rng = np.random.default_rng(self.seed)
        both = [[self._drawn(task, rng) for task in side] for side in (scores, others)]
        return self._ends(statistic(*both))

    def band(self, curves: Array) -> tuple[Array, Array]:
        """Return the low and the high end of the mean of `curves` [n, T] at every point: two arrays [T]."""
        count = len(curves)
        rng = np.random.default_rng(self.seed)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=self.resamples) / count
        return self._ends(weights @ curves)

    def _drawn(self, task: Array, rng: np.random.Generator) -> Array:
        return task[rng.integers(len(task), size=(self.resamples, len(task)))]

    def _ends(self, values: Array) -> tuple[Array, Array]:
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(values, [outside, 1 - outside], axis=0)
        return low, high


def _task_means(scores: Scores) -> Array:
    return np.stack([task.mean(axis=-1) for task in scores])


def _pooled(scores: Scores) -> Array:
    return np.concatenate(list(scores), axis=-1)
