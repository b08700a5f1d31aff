"""Pruning with the real Optuna: what runs report, at which steps, and which trials are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats  # noqa: F401 - Wilcoxon's, a second that no test should pay
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from ppolab.study.claims import Claim, Trials
from ppolab.study.run_study import open_study
from ppolab.study.search_space import Choice, SearchSpace
from ppolab.study.settings import Pruning, StudySettings, _seeds_needed, make_pruner
from ppolab.study.storage import open_storage
from ppolab.study.trial_process import TrialReference, reporter

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = SearchSpace({"optimizer.lr": Choice(("1e-3", "1e-8"))})
MEDIAN = Pruning("median", 4000, 24_000)


def opened(folder: Path, pruning: Pruning) -> tuple[Trials, optuna.Study]:
    settings = StudySettings(
        name="s",
        objectives=("eval/return",),
        directions=("maximize",),
        n_trials=99,
        timeout=None,
        workers=1,
        seeds_per_trial=1,
        max_failures=1,
        seed=0,
        sampler="random",
        pruning=pruning,
    )
    storage = open_storage(None, "s", folder)
    study = open_study(settings, SPACE, storage)
    return Trials(study, storage, SPACE), study


def reference(folder: Path, claim: Claim, pruning: Pruning) -> TrialReference:
    return TrialReference(
        storage=None,
        folder=str(folder),
        study="s",
        number=claim.number,
        trial_id=claim.trial_id,
        pruning=pruning,
        parent_run_id=None,
        run_name="trial-0000",
        command_alone="ppolab-train clip=0.2",
    )


def claimed(trials: Trials) -> Claim:
    claim = trials.claim(99)
    assert claim is not None
    return claim


def train(folder: Path, trials: Trials, pruning: Pruning, curve: Sequence[tuple[int, float]]) -> bool:
    """Claim a trial, and report the points of its learning curve as a run does; return whether it was cut."""
    claim = claimed(trials)
    report = reporter(reference(folder, claim, pruning), pruning)
    for steps, value in curve:
        if report(steps // pruning.first * pruning.first, value):
            trials.prune(claim, {})
            return True
    trials.complete(claim, [curve[-1][1]], {})
    return False


def curve_with_odd_steps(rng: np.random.Generator, level: float) -> list[tuple[int, float]]:
    """Evaluations of a run whose iterations of about 2000 steps end anywhere, as where resets take rows away."""
    points, steps, due = [], 0, 4000
    while steps < 20_000:
        steps += int(rng.integers(1900, 2049))
        if steps >= due:
            due = (steps // 4000 + 1) * 4000
            points.append((steps, level * (1 - np.exp(-steps / 8000)) + rng.normal()))
    return points


# --- steps -----------------------------------------------------------------------------------------------------------


def assert_every_point_has_a_peer(trials: Sequence[FrozenTrial]) -> None:
    points = Counter(step for trial in trials for step in trial.intermediate_values)
    assert points
    assert min(points.values()) > 1, points


def test_evaluations_anywhere_are_compared_and_what_does_not_learn_is_cut(tmp_path: Path) -> None:
    trials, study = opened(tmp_path, MEDIAN)
    rng = np.random.default_rng(0)
    levels = [400.0, 500.0, 450.0, 20.0, 480.0, 20.0, 20.0, 470.0]
    cut = [train(tmp_path, trials, MEDIAN, curve_with_odd_steps(rng, level)) for level in levels]
    assert cut[5:7] == [True, True], "after five trials, a level of 20 is below the median"
    assert cut[:5] == [False] * 5
    assert_every_point_has_a_peer(study.trials)
    assert {step % 4000 for trial in study.trials for step in trial.intermediate_values} == {0}


def test_a_run_that_passes_two_evaluations_at_once_has_both(tmp_path: Path) -> None:
    trials, study = opened(tmp_path, MEDIAN)
    train(tmp_path, trials, MEDIAN, [(4100, 1.0), (8200, 2.0), (12_100, 3.0)])
    train(tmp_path, trials, MEDIAN, [(3999 + 4002, 5.0), (12_050, 6.0)])
    assert study.trials[0].intermediate_values == {4000: 1.0, 8000: 2.0, 12_000: 3.0}
    assert study.trials[1].intermediate_values == {4000: 5.0, 8000: 5.0, 12_000: 6.0}
    assert_every_point_has_a_peer(study.trials)


def test_a_trial_is_judged_by_the_value_that_it_has_just_reported(tmp_path: Path) -> None:
    """It was behind when nobody could tell, and is at the best value when it is compared first."""
    pruning = Pruning("median", 4000, 24_000, {"n_startup_trials": 1})
    trials, study = opened(tmp_path, pruning)
    claim = claimed(trials)
    report = reporter(reference(tmp_path, claim, pruning), pruning)
    assert not report(4000, 399.0), "no other trial has ended"
    assert not train(tmp_path, trials, pruning, [(4000, 415.0), (8000, 487.0), (12_000, 500.0)])
    assert not report(8000, 500.0), "nothing is better than 500"
    assert not report(12_000, 500.0)
    trials.complete(claim, [500.0], {})
    claim = claimed(trials)
    report = reporter(reference(tmp_path, claim, pruning), pruning)
    assert report(4000, 399.0), "now it is told at once"
    assert study.trials[2].intermediate_values == {4000: 399.0}


def test_a_run_reports_and_is_stopped_when_it_is_worse(tmp_path: Path) -> None:
    pruning = Pruning("median", 1, 5, {"n_startup_trials": 2, "n_warmup_steps": 1})
    trials, study = opened(tmp_path, pruning)
    answers = []
    for value in (5.0, 6.0, 1.0):
        claim = claimed(trials)
        passed = TrialReference.from_text(reference(tmp_path, claim, pruning).as_text())
        report = reporter(passed, pruning)
        answers.append([report(1, value), report(2, value)])
        trials.complete(claim, [value], {})
    assert answers == [[False, False], [False, False], [True, True]]
    assert study.trials[2].intermediate_values == {1: 1.0, 2: 1.0}


def test_a_report_that_fails_stops_nobody(tmp_path: Path) -> None:
    claim = Claim(0, 0, {}, again=False)
    assert (
        reporter(reference(tmp_path / "nothing", claim, Pruning("median", 1, 5)), Pruning("median", 1, 5))(1, 2.0)
        is False
    )


# --- hyperband and wilcoxon ------------------------------------------------------------------------------------------


def test_hyperband_counts_environment_steps(tmp_path: Path) -> None:
    """With 1 to 9 evaluations it has three brackets; trials are cut at the first step times powers of three."""
    pruning = Pruning("hyperband", 1000, 9000)
    trials, study = opened(tmp_path, pruning)
    rng = np.random.default_rng(1)
    best = 0
    for number in range(24):
        level = 500.0 if number % 4 == 0 else 100.0 + number
        points = [(step + int(rng.integers(0, 900)), level) for step in range(1000, 9000, 1000)]
        best += not train(tmp_path, trials, pruning, points) and level == 500.0
    cut = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert len(cut) > 6
    assert {trial.last_step for trial in cut} == {1000, 3000}
    assert best == 6, "none that has the best value is cut"


def first_stop(pruner: BasePruner, seeds: int) -> int | None:
    """Return after how many seeds the worst possible trial is stopped; the last seed is not asked for."""
    stops = []
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for value in [100.0, *[-float(number) for number in range(12)]]:
        trial = study.ask()
        for seed in range(seeds):
            trial.report(value + 0.1 * seed, seed)
            if seed < seeds - 1 and trial.should_prune():
                stops.append(seed + 1)
                break
        study.tell(trial, value)
    return min(stops, default=None)


@pytest.mark.parametrize(("seeds", "stop"), [(2, None), (3, None), (4, None), (5, 4), (8, 4)])
def test_wilcoxon_stops_nothing_before_the_fourth_seed(seeds: int, stop: int | None) -> None:
    assert first_stop(make_pruner(Pruning("wilcoxon", 1, seeds)), seeds) == stop


@pytest.mark.parametrize(("seeds", "stop"), [(2, None), (3, 2), (5, 2)])
def test_hyperband_stops_nothing_before_the_second_seed(seeds: int, stop: int | None) -> None:
    assert first_stop(make_pruner(Pruning("hyperband", 1, seeds)), seeds) == stop


@pytest.mark.parametrize(
    ("options", "needed"),
    [({}, 5), ({"p_threshold": 0.2}, 4), ({"p_threshold": 0.0625}, 6), ({"n_startup_steps": 6}, 7)],
)
def test_wilcoxon_with_options(options: dict[str, Any], needed: int) -> None:
    """The number that ppolab asks for is the least with which Optuna stops a trial."""
    pruning = Pruning("wilcoxon", 1, 9, options)
    assert _seeds_needed(pruning) == needed
    assert first_stop(make_pruner(pruning), needed) == needed - 1
    assert first_stop(make_pruner(pruning), needed - 1) is None
