"""Statistics over runs and tasks: numbers worked out by hand, rliable's, and what must hold whatever the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rliable_parts import library, metrics

from ppolab.core.statistics import (
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

Matrix = NDArray[np.float64]

TWO_TASKS = [np.array([1.0, 2.0, 3.0, 10.0]), np.array([0.0, 0.5])]


def by_task(matrix: Matrix) -> list[Matrix]:
    """rliable has runs in rows and tasks in columns."""
    return list(matrix.T)


def random_matrix(runs: int, tasks: int, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 0.4, size=(runs, tasks)) * rng.uniform(0.5, 1.5, size=tasks)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_literal_numbers() -> None:
    assert mean(TWO_TASKS) == (4.0 + 0.25) / 2
    assert median(TWO_TASKS) == (4.0 + 0.25) / 2
    assert run_median(TWO_TASKS) == 1.5
    assert interquartile_mean(TWO_TASKS) == (0.5 + 1 + 2 + 3) / 4  # of six, one at either end goes
    assert optimality_gap(TWO_TASKS) == ((1 - 1.0) + (1 - 0.25)) / 2
    assert optimality_gap(TWO_TASKS, gamma=2.0) == ((2 - 7 / 4) + (2 - 0.25)) / 2


def test_median_is_over_tasks() -> None:
    assert median([np.array([0.0, 10.0]), np.array([1.0]), np.array([100.0])]) == 5.0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([7.0], 7.0), ([1.0, 2.0, 9.0], 4.0), ([0.0, 1.0, 2.0, 99.0], 1.5), ([0.0, 1.0, 2.0, 3.0, 99.0], 2.0)],
)
def test_interquartile_mean_of_few_runs(scores: list[float], expected: float) -> None:
    assert interquartile_mean([np.array(scores)]) == expected


def test_literal_probability_of_improvement() -> None:
    wins = probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 3.0, 0.0])])
    assert wins == (1 + 2.5) / 6  # 1 beats 0; 3 beats 2 and 0, and shares with 3
    assert probability_of_improvement([np.array([2.0]), np.array([0.0])], [np.array([1.0]), np.array([1.0])]) == 0.5


def test_literal_performance_profile() -> None:
    profile = performance_profile(TWO_TASKS, np.array([-1.0, 0.0, 2.0, 10.0]))
    np.testing.assert_array_equal(profile, [1.0, (1 + 0.5) / 2, (0.5 + 0) / 2, 0.0])


def test_interval_of_two_runs() -> None:
    """A resample's mean is 0, 1 or 2 with probability 1/4, 1/2, 1/4."""
    scores = [np.array([0.0, 2.0])]
    assert Bootstrap(10_000, 0.95).interval(mean, scores) == (0.0, 2.0)
    assert Bootstrap(10_000, 0.40).interval(mean, scores) == (1.0, 1.0)


# --- rliable ---------------------------------------------------------------------------------------------------------

SHAPES = [(1, 1), (2, 1), (3, 2), (4, 3), (5, 1), (5, 7), (7, 3), (10, 26), (11, 5), (20, 4)]
SAME: dict[str, tuple[Callable[[Scores], Any], Callable[[Matrix], Any]]] = {
    "mean": (mean, metrics.aggregate_mean),
    "median": (median, metrics.aggregate_median),
    "interquartile mean": (interquartile_mean, metrics.aggregate_iqm),
    "optimality gap": (optimality_gap, metrics.aggregate_optimality_gap),
    "gap to 0.5": (lambda s: optimality_gap(s, 0.5), lambda m: metrics.aggregate_optimality_gap(m, 0.5)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SAME)
def test_aggregates_are_those_of_rliable(name: str, shape: tuple[int, int]) -> None:
    ours, theirs = SAME[name]
    for seed in range(20):
        matrix = random_matrix(*shape, seed)
        assert ours(by_task(matrix)) == pytest.approx(theirs(matrix), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(("runs", "others", "tasks"), [(1, 1, 1), (3, 5, 2), (5, 5, 4), (10, 7, 10)])
def test_probability_of_improvement_is_that_of_rliable(runs: int, others: int, tasks: int) -> None:
    for seed in range(20):
        mine, theirs = random_matrix(runs, tasks, seed), random_matrix(others, tasks, seed + 1000)
        mine, theirs = np.round(mine, 1), np.round(theirs, 1)  # ties
        expected = metrics.probability_of_improvement(mine, theirs)
        assert probability_of_improvement(by_task(mine), by_task(theirs)) == pytest.approx(expected, abs=1e-13)


def test_performance_profile_is_that_of_rliable() -> None:
    thresholds = np.linspace(0, 2, 21)
    for seed, shape in enumerate(SHAPES):
        matrix = np.round(random_matrix(*shape, seed), 1)
        expected = library.score_distributions(matrix, thresholds)
        np.testing.assert_allclose(performance_profile(by_task(matrix), thresholds), expected, atol=1e-13)


RESAMPLES = 2000
TOLERANCE = 0.09
"""Of an interval's width. The probability beyond an end is off by about sqrt(0.025 * 0.975 / 2000), which moves the end
by 1.5 % of the width where the distribution is normal; two ends differ by 2.2 %, and four times that is allowed."""


@pytest.mark.parametrize("shape", [(5, 3), (10, 10)])
@pytest.mark.parametrize("name", SAME)
def test_intervals_are_those_of_rliable(name: str, shape: tuple[int, int]) -> None:
    ours, theirs = SAME[name]
    matrix = random_matrix(*shape, 7)
    np.random.seed(0)  # where rliable draws from
    _, ends = library.get_interval_estimates(
        {"one": matrix}, lambda m: np.array([theirs(m)]), reps=RESAMPLES, confidence_interval_size=0.95
    )
    low, high = Bootstrap(RESAMPLES).interval(ours, by_task(matrix))
    expected = ends["one"][:, 0]
    assert [low, high] == pytest.approx(list(expected), abs=TOLERANCE * (expected[1] - expected[0]))


FEW = 400
"""Resamples of rliable's improvements, each of which takes it 10 ms; an end is off by 3.4 %."""


def test_interval_of_improvement_is_that_of_rliable() -> None:
    mine, theirs = random_matrix(8, 5, 1), random_matrix(6, 5, 2)
    np.random.seed(0)
    _, ends = library.get_interval_estimates(
        {"pair": [mine, theirs]}, lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), reps=FEW
    )
    low, high = Bootstrap(RESAMPLES).interval_of_pair(probability_of_improvement, by_task(mine), by_task(theirs))
    expected = ends["pair"][:, 0]
    assert [low, high] == pytest.approx(list(expected), abs=2 * TOLERANCE * (expected[1] - expected[0]))


def test_band_of_a_profile_is_that_of_rliable() -> None:
    matrix, thresholds = random_matrix(10, 6, 3), np.linspace(0.1, 1.5, 8)
    np.random.seed(0)
    _, ends = library.create_performance_profile({"one": matrix}, thresholds, reps=RESAMPLES)
    ours = Bootstrap(RESAMPLES).interval(lambda s: performance_profile(s, thresholds), by_task(matrix))
    np.testing.assert_allclose(ours, ends["one"], atol=1 / matrix.size + 1e-9)  # in steps of one run of sixty


# --- whatever the scores ---------------------------------------------------------------------------------------------

task = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8).map(np.array)
tasks = st.lists(task, min_size=1, max_size=5)


@given(tasks)
def test_aggregates_lie_among_the_scores(scores: list[Matrix]) -> None:
    everything = np.concatenate(scores)
    slack = 1e-9 * (1 + np.abs(everything).max())
    for statistic in (mean, median, run_median, interquartile_mean):
        assert everything.min() - slack <= statistic(scores) <= everything.max() + slack


@given(tasks, st.randoms())
def test_order_of_runs_and_tasks_does_not_matter(scores: list[Matrix], random: Any) -> None:
    shuffled = [np.array(random.sample(list(task), len(task))) for task in random.sample(scores, len(scores))]
    for statistic in (mean, median, run_median, interquartile_mean, optimality_gap):
        assert statistic(shuffled) == pytest.approx(statistic(scores), rel=1e-9, abs=1e-6)


@given(tasks)
def test_chances_of_two_methods_sum_to_one(scores: list[Matrix]) -> None:
    others = [task + 1 for task in scores]
    forth, back = probability_of_improvement(scores, others), probability_of_improvement(others, scores)
    assert forth + back == pytest.approx(1)
    assert probability_of_improvement(scores, scores) == pytest.approx(0.5)


@given(tasks, st.floats(-10, 10))
def test_gap_is_never_negative_and_moves_with_the_scores(scores: list[Matrix], shift: float) -> None:
    gap = optimality_gap(scores)
    assert gap >= -1e-9
    moved = optimality_gap([task + shift for task in scores], gamma=1 + shift)
    assert moved == pytest.approx(gap, rel=1e-9, abs=1e-6)


@given(tasks)
def test_profile_falls_from_one_to_nothing(scores: list[Matrix]) -> None:
    everything = np.concatenate(scores)
    thresholds = np.array([everything.min() - 1, *np.sort(everything), everything.max() + 1])
    profile = performance_profile(scores, thresholds)
    assert profile[0] == pytest.approx(1) and profile[-1] == 0
    assert (np.diff(profile) <= 1e-12).all()


@given(tasks, st.integers(0, 5))
def test_resamples_are_judged_as_each_alone(scores: list[Matrix], seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [task[rng.integers(len(task), size=(3, len(task)))] for task in scores]
    for statistic in (mean, median, run_median, interquartile_mean, optimality_gap):
        together = statistic(drawn)
        assert together.shape == (3,)
        for index in range(3):
            assert together[index] == pytest.approx(statistic([task[index] for task in drawn]), rel=1e-9, abs=1e-6)


@given(task, st.integers(0, 5))
def test_interval_holds_the_mean_and_is_the_same_again(scores: Matrix, seed: int) -> None:
    bootstrap = Bootstrap(500, 0.95, seed)
    low, high = bootstrap.interval(mean, [scores])
    assert low - 1e-6 <= scores.mean() <= high + 1e-6 or len(set(scores)) > 1
    assert low <= high
    assert bootstrap.interval(mean, [scores]) == (low, high)


def test_strata_are_never_mixed() -> None:
    """With one run per task every resample is the scores themselves."""
    scores = [np.array([1.0]), np.array([5.0])]
    assert Bootstrap(200).interval(mean, scores) == (3.0, 3.0)


def test_wider_confidence_makes_wider_intervals_and_more_runs_narrower_ones() -> None:
    rng = np.random.default_rng(0)
    few, many = [rng.normal(size=10)], [rng.normal(size=1000)]
    widths = [high - low for low, high in (Bootstrap(2000, share).interval(mean, few) for share in (0.5, 0.8, 0.95))]
    assert widths == sorted(widths)
    low, high = Bootstrap(2000).interval(mean, many)
    assert high - low < widths[-1] / 5


def test_band_of_curves_is_the_interval_of_every_point() -> None:
    rng = np.random.default_rng(0)
    curves = rng.normal(size=(6, 4)) + np.arange(4)
    low, high = Bootstrap(20_000).band(curves)
    for point in range(4):
        expected = Bootstrap(20_000, seed=1).interval(mean, [curves[:, point]])
        assert (low[point], high[point]) == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_the_truth(confidence: float) -> None:
    """Of many experiments with a known mean about as many as promised; percentile intervals of few runs fall short."""
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(400):
        low, high = Bootstrap(1000, confidence, seed).interval(mean, [rng.normal(size=20) for _ in range(4)])
        hits += bool(low <= 0 <= high)
    assert confidence - 0.06 < hits / 400 < confidence + 0.04
