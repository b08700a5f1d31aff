"""Run the loop of a sweep: claim a trial, run its seeds one after another, judge it; never wait for the slowest."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ppolab.core.statistics import interquartile_mean
from ppolab.errors import SweepError
from ppolab.records.tracking import Tracker
from ppolab.study.claims import Claim, Trials
from ppolab.study.population_trials import PopulationTrials
from ppolab.study.search_space import overrides
from ppolab.study.settings import StudySettings
from ppolab.study.storage import HEARTBEAT_SECONDS

End = Literal["complete", "pruned", "failed", "interrupted"]

WAIT_SECONDS = 0.5
"""A process without a trial looks so often whether others have ended those that it waits for."""
MOST_DEATHS = 3
"""So often a segment of a population is run whose process is killed; then the member counts as failed."""


@dataclass(frozen=True)
class Job:
    """Describe one run to be started: its settings, and which seed of which trial it is.

    `parent` is the tracking run that it belongs to, of which the store may not have heard yet.
    """

    claim: Claim
    seed_index: int
    overrides: tuple[str, ...]
    parent: Tracker


@dataclass(frozen=True)
class Outcome:
    """Say how a run ended.

    Attributes:
        values: one per objective; NaN where it was never measured. error: a traceback, how the process ended, or why an
            objective was never measured. folder: its files. seconds: for how long it kept a worker busy.
        died: its process was killed, so that nobody knows how the run would have ended.
    """

    job: Job
    end: End
    values: tuple[float, ...] = ()
    error: str = ""
    folder: str = ""
    seconds: float = 0.0
    died: bool = False


class Record(Protocol):
    """Show and store what becomes of trials."""

    def begin(self, claim: Claim) -> Tracker:
        """Begin a trial that was claimed; return the tracking run that its runs belong to."""

    def end(self, report: TrialReport) -> None:
        """End a trial."""

    def last_begun(self) -> None:
        """Note that the study has all its trials, though some are still under way."""

    def show(self, runs: Sequence[tuple[Job, Path]]) -> None:
        """Show how far the runs under way are, each given with its folder."""


class Runner(Protocol):
    """Run jobs at the same time, each in a process of its own.

    Attributes:
        capacity: how many at the same time.
        ends_lost_runs: it marks the tracking runs of processes that were killed; else somebody else must.
    """

    capacity: int
    ends_lost_runs: bool

    def start(self, job: Job) -> None:
        """Begin a run and return at once. Only called while fewer than `capacity` are under way."""

    def start_together(self, jobs: Sequence[Job]) -> bool:
        """Begin runs that differ in their seeds as one process, where that can be; else do nothing, and return False.

        They count as one of `capacity`, and end together.
        """

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """Return the runs that ended, at the latest after so many seconds."""

    def under_way(self) -> Sequence[tuple[Job, Path]]:
        """Return the runs that have not ended, each with its folder."""

    def stop(self) -> Sequence[Outcome]:
        """Ask all runs to save and end, and wait until they did; return them."""

    def send_again(self, study: Path, uri: str, parent: Tracker) -> None:
        """Begin to send what the tracking store may lack of earlier runs, see `TrackingRelay.send_again`."""

    def close(self) -> None:
        """Wait until the tracking store has what the runs recorded."""

    def give_up(self) -> None:
        """End the wait of `close`."""


@dataclass
class Attempt:
    """Hold a claimed trial under way, the outcomes of its seeds so far, and how often its process was killed.

    `together`: all seeds were started at once.
    """

    claim: Claim
    parent: Tracker
    outcomes: list[Outcome] = field(default_factory=list)
    deaths: int = 0
    together: bool = False


@dataclass(frozen=True)
class TrialReport:
    """Describe a trial that has just ended: its value per objective, and those of each seed."""

    claim: Claim
    end: End
    values: tuple[float, ...]
    each: tuple[tuple[float, ...], ...]
    error: str


class Sweep:
    """Do one process's part of a study.

    Attributes:
        busy_seconds: of all workers together, in which they had a run.
    """

    def __init__(
        self,
        settings: StudySettings,
        trials: Trials | PopulationTrials,
        runner: Runner,
        record: Record,
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._trials = trials
        self._runner = runner
        self._record = record
        self._stopping = stopping
        self._attempts: dict[int, Attempt] = {}
        self._failures = 0
        self._deadline = math.inf if settings.timeout is None else time.monotonic() + settings.timeout
        self._next_sign = 0.0
        self._waits = False
        self.busy_seconds = 0.0

    def run(self) -> None:
        """Run trials until the study has all, time is up, or `stopping` says so.

        Raises:
            SweepError: `max_failures` trials have failed; those under way were finished first.
        """
        self._record.show([])  # the first run may take a while to begin
        while True:
            self._fill()
            if not self._attempts and not self._waits:
                break
            if not self._attempts:
                time.sleep(WAIT_SECONDS)  # for trials that others run
            for outcome in self._runner.stop() if self._stopping() else self._runner.wait(1.0):
                self._advance(outcome)
            self._record.show(self._runner.under_way())
            self._show_life()
        if self._failures >= self._settings.max_failures:
            raise SweepError(
                f"{self._failures} trials failed, max_failures={self._settings.max_failures}: their tracebacks are in "
                "the study and in their folders; the same command goes on with the other trials"
            )

    def _fill(self) -> None:
        self._waits = False
        while (
            len(self._attempts) < self._runner.capacity
            and not self._stopping()
            and self._failures < self._settings.max_failures
            and time.monotonic() < self._deadline
        ):
            claim = self._trials.claim(self._settings.n_trials)
            if claim == "later":
                self._waits = True
                return
            if claim is None:
                self._record.last_begun()
                return
            attempt = self._attempts[claim.number] = Attempt(claim, self._record.begin(claim))
            if claim.error:
                self._finish(attempt, "failed", claim.error)
            else:
                self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        """Start the trial's next seed, or all of them."""
        settings, begun = self._settings, len(attempt.outcomes)
        if settings.seeds_per_trial > 1 and begun == 0 and settings.pruning.name == "none":
            jobs = [self._job(attempt, index) for index in range(settings.seeds_per_trial)]
            attempt.together = self._runner.start_together(jobs)
        if not attempt.together:
            self._runner.start(self._job(attempt, begun))

    def _job(self, attempt: Attempt, seed_index: int) -> Job:
        settings, claim = self._settings, attempt.claim
        seed: tuple[str, ...] = ()
        if claim.segment is not None:
            seed = (f"seed={settings.seed + claim.segment.member}",)
        elif settings.seeds_per_trial > 1:
            seed = (f"seed={settings.seed + seed_index}",)
        setting = (*settings.fixed, *overrides(claim.values), *seed)
        return Job(claim, seed_index, setting, attempt.parent)

    def _advance(self, outcome: Outcome) -> None:
        """Bring a trial on after one of its runs has ended."""
        self.busy_seconds += outcome.seconds
        attempt = self._attempts.get(outcome.job.claim.number)
        if attempt is None:
            return  # of a trial whose seeds were trained at once, and that an earlier one of them has ended
        if outcome.end == "failed" and self._stopping():
            # what failed because of the signal cannot be told from what would have: it runs again
            outcome = replace(outcome, end="interrupted")
        if outcome.died and outcome.end == "failed" and self._runs_again(attempt):
            return
        attempt.outcomes.append(outcome)
        if outcome.end == "complete" and any(math.isnan(value) for value in outcome.values):
            self._finish(attempt, "failed", outcome.error or "the run never measured its objective")
        elif outcome.end != "complete":
            self._finish(attempt, outcome.end, outcome.error)
        elif len(attempt.outcomes) == self._settings.seeds_per_trial:
            self._report_seed(attempt)
            self._finish(attempt, "complete")
        elif self._report_seed(attempt):
            self._finish(attempt, "pruned")
        elif attempt.together:
            return  # the next seed has ended, too
        elif self._stopping():
            self._finish(attempt, "interrupted")
        else:
            self._start(attempt)

    def _runs_again(self, attempt: Attempt) -> bool:
        """Run a segment of a population again whose process was killed, since the lineage must not depend on that."""
        attempt.deaths += 1
        if attempt.claim.segment is None or attempt.deaths >= MOST_DEATHS:
            return False
        attempt.claim = replace(attempt.claim, again=True)
        attempt.parent = self._record.begin(attempt.claim)
        self._start(attempt)
        return True

    def _report_seed(self, attempt: Attempt) -> bool:
        """Report the last seed; return whether the pruner wants no more. It never sees seeds of several objectives."""
        if self._settings.seeds_per_trial == 1 or len(self._settings.directions) > 1:
            return False
        return self._trials.report(attempt.claim, len(attempt.outcomes) - 1, attempt.outcomes[-1].values[0])

    def _finish(self, attempt: Attempt, end: End, error: str = "") -> None:
        claim, each = attempt.claim, tuple(outcome.values for outcome in attempt.outcomes if outcome.values)
        values = tuple(float(interquartile_mean([np.array(column)])) for column in zip(*each, strict=True))
        notes = _notes(self._settings, each, attempt.outcomes)
        if end == "complete":
            self._trials.complete(claim, values, notes)
        elif end == "pruned":
            self._trials.prune(claim, notes)
        elif end == "failed":
            self._failures += 1
            self._trials.fail(claim, error, notes)
        # an interrupted one stays as it is: once this process is gone, the next sweep runs it again
        del self._attempts[claim.number]
        self._record.end(TrialReport(claim, end, values, each, error))

    def _show_life(self) -> None:
        if time.monotonic() >= self._next_sign:
            self._trials.show_life([attempt.claim.trial_id for attempt in self._attempts.values()])
            self._next_sign = time.monotonic() + HEARTBEAT_SECONDS


def _notes(settings: StudySettings, each: Sequence[Sequence[float]], outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Return the user attributes of a trial that has ended."""
    notes: dict[str, Any] = {"folders": [outcome.folder for outcome in outcomes]}
    if settings.seeds_per_trial > 1:
        for name, column in zip(settings.objectives, zip(*each, strict=True), strict=False):
            notes[f"{name} each seed"] = list(column)
            notes[f"{name} mean"] = statistics.fmean(column)
            notes[f"{name} sd"] = statistics.stdev(column) if len(column) > 1 else 0.0
    return notes
