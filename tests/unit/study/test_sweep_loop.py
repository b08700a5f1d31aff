"""The loop of a sweep: trials, seeds, failures and stops, and the lines that it prints."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from study_parts import Dying, Instant, score, settings, sweep

from ppolab.core.statistics import interquartile_mean
from ppolab.errors import SweepError
from ppolab.study.claims import Claim
from ppolab.study.settings import Pruning
from ppolab.study.study_record import told
from ppolab.study.sweep_loop import Job, TrialReport


def test_a_study_runs_its_trials_and_finds_the_best(tmp_path: Path) -> None:
    runner = Instant(score)
    study, record = sweep(tmp_path, runner, n_trials=30)
    assert len(study.trials) == len(record.reports) == 30
    assert runner.most == 2, "as many at a time as the runner takes"
    assert abs(study.best_params["clip"] - 0.2) < 0.05
    assert runner.started[0].parent is record.tracker
    assert record.all_begun > 0, "that no further trial begins is told while some are under way"


def test_n_trials_is_a_total(tmp_path: Path) -> None:
    sweep(tmp_path, Instant(score), n_trials=4)
    runner = Instant(score)
    study, _ = sweep(tmp_path, runner, n_trials=7)
    assert [job.claim.number for job in runner.started] == [4, 5, 6]
    assert len({trial.params["clip"] for trial in study.trials}) == 7, "a resumed sampler does not repeat itself"


def test_seeds_are_judged_by_their_interquartile_mean(tmp_path: Path) -> None:
    values = {0: 1.0, 1: 2.0, 2: 100.0, 3: 3.0, 4: -50.0}
    runner = Instant(lambda job: (values[job.seed_index],))
    study, record = sweep(tmp_path, runner, n_trials=2, seeds_per_trial=5, seed=7)
    expected = 2.0  # the mean of 1, 2, 3: of five seeds, one at either end goes
    assert [trial.value for trial in study.trials] == [expected, expected]
    seeds = [next(part for part in job.overrides if part.startswith("seed=")) for job in runner.started[::2]]
    assert seeds == ["seed=7", "seed=8", "seed=9", "seed=10", "seed=11"]
    attributes = study.trials[0].user_attrs
    assert attributes["eval/return each seed"] == list(values.values())
    assert attributes["eval/return mean"] == pytest.approx(statistics.fmean(values.values()))
    assert attributes["eval/return sd"] == pytest.approx(statistics.stdev(values.values()))
    assert study.trials[0].intermediate_values == values
    assert record.reports[0].each == tuple((value,) for value in values.values())


def test_wilcoxon_stops_a_trial_that_is_clearly_worse(tmp_path: Path) -> None:
    def worse_from_the_second_on(job: Job) -> tuple[float, ...]:
        return ((100.0 if job.claim.number == 0 else 0.0) + job.seed_index,)

    runner = Instant(worse_from_the_second_on, capacity=1)
    study, _ = sweep(tmp_path, runner, n_trials=4, seeds_per_trial=10, workers=1, pruning=Pruning("wilcoxon", 1, 10))
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]
    runs = Counter(job.claim.number for job in runner.started)
    assert runs[0] == 10
    assert max(runs[number] for number in (1, 2, 3)) < 10


def test_a_trial_that_raises_is_kept_and_the_sweep_goes_on(tmp_path: Path) -> None:
    def third_fails(job: Job) -> tuple[float, ...]:
        if job.claim.number == 2:
            raise RuntimeError("the simulator is on fire")
        return score(job)

    study, record = sweep(tmp_path, Instant(third_fails), n_trials=5)
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == 4
    assert "the simulator is on fire" in study.trials[2].user_attrs["error"]
    assert [report.end for report in record.reports].count("failed") == 1


def test_too_many_failures_end_the_sweep(tmp_path: Path) -> None:
    def fails(job: Job) -> tuple[float, ...]:
        raise RuntimeError("no")

    runner = Instant(fails)
    with pytest.raises(SweepError, match="max_failures=3"):
        sweep(tmp_path, runner, n_trials=20, max_failures=3)
    assert len(runner.started) == 4, "the one that was under way is waited for"


def test_an_objective_that_was_never_measured_is_a_failure(tmp_path: Path) -> None:
    study, record = sweep(tmp_path, Instant(lambda job: (float("nan"),)), n_trials=1)
    assert study.trials[0].state == TrialState.FAIL
    assert "never measured" in study.trials[0].user_attrs["error"]
    assert "never measured" in told(record.reports[0], settings())
    assert "nan" not in told(record.reports[0], settings())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2946546383973509, "clip=0.295"), (0.30000000000000004, "clip=0.3"), (2.5e-05, "clip=2.5e-05"),
        (0.99961, "clip=0.9996"), (1.0, "clip=1"), (7, "clip=7"), ("[32, 32]", "clip=[32, 32]"),
        (1234.56, "clip=1234.6"),
    ],
)  # fmt: skip
def test_the_line_of_a_trial_has_rounded_settings(value: Any, text: str) -> None:
    claim = Claim(3, 3, {"clip": value}, again=False)
    line = told(TrialReport(claim, "complete", (1234.56,), ((1234.56,),), ""), settings())
    assert line == f"trial 3    complete    eval/return 1,235  {text}"


def test_the_line_of_an_interrupted_trial_has_no_error() -> None:
    claim = Claim(3, 3, {"clip": 0.2}, again=False)
    line = told(TrialReport(claim, "interrupted", (), (), "Traceback\nKeyboardInterrupt"), settings())
    assert line == "trial 3    interrupted runs again under its number  clip=0.2"


def test_the_record_is_shown_what_is_under_way(tmp_path: Path) -> None:
    _, record = sweep(tmp_path, Instant(score), n_trials=3)
    assert record.shown == [[], [1], [2], []]


@pytest.mark.parametrize(("seeds", "value"), [(1, 7.0), (2, 6.0), (3, 12.0), (4, 6.0), (5, 6.0)])
def test_a_study_judges_seeds_as_a_report_does(seeds: int, value: float, tmp_path: Path) -> None:
    """Of the values 7, 5, 24, -4 and 6 floor(n/4) at either end do not count."""
    values = [7.0, 5.0, 24.0, -4.0, 6.0]
    runner = Instant(lambda job: (values[job.seed_index],))
    study, _ = sweep(tmp_path, runner, n_trials=1, seeds_per_trial=seeds)
    assert [trial.value for trial in study.trials] == [value]
    assert value == interquartile_mean([np.array(values[:seeds])])


def test_a_stop_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    count = itertools.count()
    runner = Instant(score)
    study, record = sweep(tmp_path, runner, stopping=lambda: next(count) > 12, n_trials=50)
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert 0 < len(done) < 49
    assert [report.end for report in record.reports].count("interrupted") == len(study.trials) - len(done)


def test_a_timeout_starts_no_more_trials(tmp_path: Path) -> None:
    runner = Instant(score)
    study, _ = sweep(tmp_path, runner, n_trials=50, timeout=0.0)
    assert study.trials == []


def test_a_run_that_fails_while_the_sweep_is_stopped_is_run_again(tmp_path: Path) -> None:
    """The signal may have killed it."""

    def fails(job: Job) -> tuple[float, ...]:
        raise RuntimeError("exit code 255")

    count = itertools.count()
    study, record = sweep(tmp_path, Dying(fails), stopping=lambda: next(count) > 2, n_trials=5)
    assert {trial.state for trial in study.trials} == {TrialState.RUNNING}
    assert {report.end for report in record.reports} == {"interrupted"}


# --- seeds at once ---------------------------------------------------------------------------------------------------


def test_seeds_that_are_trained_at_once_are_judged_as_those_one_after_another(tmp_path: Path) -> None:
    studies = []
    for together in (False, True):
        runner = Instant(score, capacity=1, together=together)
        study, record = sweep(tmp_path / str(together), runner, n_trials=3, seeds_per_trial=4, seed=7)
        assert [job.overrides[-1] for job in runner.started] == [f"seed={7 + index}" for index in range(4)] * 3
        assert (runner.most == 4) == together
        assert [report.end for report in record.reports] == ["complete"] * 3
        studies.append(
            [(trial.params, trial.value, trial.user_attrs["eval/return each seed"]) for trial in study.trials]
        )
    assert studies[0] == studies[1]


def test_a_seed_that_fails_among_seeds_at_once_fails_its_trial_once(tmp_path: Path) -> None:
    def fails(job: Job) -> tuple[float, ...]:
        if job.claim.number == 0 and job.seed_index == 1:
            raise RuntimeError("no")
        return score(job)

    study, record = sweep(tmp_path, Instant(fails, together=True), n_trials=3, seeds_per_trial=3)
    assert Counter(trial.state for trial in study.trials) == {TrialState.FAIL: 1, TrialState.COMPLETE: 2}
    assert len(record.reports) == 3


def test_a_pruner_looks_at_one_seed_after_another(tmp_path: Path) -> None:
    runner = Instant(score, together=True)
    sweep(tmp_path, runner, n_trials=1, seeds_per_trial=10, workers=1, pruning=Pruning("wilcoxon", 1, 10))
    assert runner.most == 1
