"""Show a study: lines on the terminal, a tracking run with its trials below, and plots."""

from __future__ import annotations

import logging
import statistics
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import optuna

from ppolab.errors import TrackingError
from ppolab.records.run_folder import RunFolder
from ppolab.records.tracking import (
    KIND_TAG,
    NOTE_TAG,
    MlflowTracker,
    NotedTracker,
    NoTracker,
    RunDescription,
    RunStatus,
    Tracker,
    end_abandoned_runs,
    environment_tags,
)
from ppolab.records.wording import problem_in
from ppolab.runtime.signals import given_up_after
from ppolab.study.claims import Claim, settings_of, trial_name
from ppolab.study.drawing import Drawing
from ppolab.study.member_runs import MemberRuns
from ppolab.study.search_space import Scalar, SearchSpace, overrides
from ppolab.study.settings import StudySettings
from ppolab.study.storage import StudyStorage
from ppolab.study.store import PATIENCE_SECONDS, Store
from ppolab.study.study_note import best_trials, study_note
from ppolab.study.sweep_lines import SweepLines
from ppolab.study.sweep_loop import Job, Runner, TrialReport

log = logging.getLogger(__name__)

RUN_ID = "mlflow_run"
"""User attribute of a study: its tracking run."""
STATUS: Mapping[str, RunStatus] = {
    "complete": "FINISHED",
    "pruned": "PRUNED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
SHOWN_DIGITS = 3
"""Significant digits of a trial's settings on the terminal; the study and the run's folder hold them all."""


class StudyRecord:
    """Show and record a study's trials as they end.

    Args:
        store: None: on the terminal only. drawing: of the study's pictures.
        progress: False leaves out how far runs are while they train.
    """

    def __init__(
        self,
        study: optuna.Study,
        settings: StudySettings,
        space: SearchSpace,
        store: Store | None,
        folder: Path,
        drawing: Drawing,
        *,
        ends_lost_runs: bool,
        progress: bool = True,
    ) -> None:
        self._study = study
        self._settings = settings
        self._store = store
        self._space = space
        self._folder = folder
        self._drawing = drawing
        self._ends_lost_runs = ends_lost_runs
        self._open_trials: dict[int, Tracker] = {}
        self._members: MemberRuns | None = None
        self._tracker: Tracker = NoTracker()
        self._opening: threading.Thread | None = None
        self._description = _described(settings, space)
        self._lines = SweepLines(settings.n_trials, shown=progress)
        self._finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))

    def open(self, storage: StudyStorage) -> None:
        """Make the study's tracking run, or go on with the one that another sweep has made.

        This does not wait for the store, which a new database keeps for seconds; other sweeps of the study do.
        """
        self._lines.ended(
            f"study         {self._settings.name}: {self._finished} of {self._settings.n_trials} trials are done"
        )
        if self._store is not None:
            locked = ExitStack()
            locked.enter_context(storage.record_lock())
            earlier = self._study.user_attrs.get(RUN_ID)
            tags = {"study": self._settings.name, KIND_TAG: "study"}
            self._tracker = self._run(self._settings.name, self._description, tags, None, earlier)
            if self._settings.population is not None:
                self._members = MemberRuns(self._study, self._settings, self._member_run)
                self._members.open()
            self._opening = threading.Thread(target=self._note_id, args=(locked, earlier), daemon=True)
            self._opening.start()
        self._describe()

    def _note_id(self, locked: ExitStack, earlier: str | None) -> None:
        """Write the id of the study's run into the study, and release the lock, whatever happens."""
        with locked:
            run_id = self._tracker.wait_for_id(PATIENCE_SECONDS)
            if run_id is not None and run_id != earlier:
                self._study.set_user_attr(RUN_ID, run_id)
            if self._members is not None:
                self._members.note_ids(PATIENCE_SECONDS)

    def _member_run(
        self, name: str, parameters: Mapping[str, str], tags: Mapping[str, str], earlier: str | None
    ) -> Tracker:
        return self._run(name, parameters, tags, self._tracker, earlier)

    def begin(self, claim: Claim) -> Tracker:
        """Return the tracking run that a trial's runs belong to.

        This is the member's in a population, its own if it has several seeds, else the study's.
        """
        tags = self._tags(claim)
        self._lines.started(f"{label(claim)} started     {chosen(claim)}")
        if claim.again:
            self._end_abandoned(tags)
        if claim.segment is not None and self._members is not None:
            return self._members.tracker(claim.segment.member)
        if self._settings.seeds_per_trial == 1:
            return self._tracker
        parameters = {plain(key): str(value) for key, value in claim.values.items()}
        name = trial_name(claim.number)
        tracker = self._run(name, parameters, {**tags, KIND_TAG: "trial"}, self._tracker, None, noted=True)
        self._open_trials[claim.number] = tracker
        return tracker

    def end(self, report: TrialReport) -> None:
        """Show and record how a trial ended, and which is the best now."""
        self._lines.ended(told(report, self._settings))
        tracker = self._open_trials.pop(report.claim.number, None)
        if tracker is not None:
            tracker.log_metrics(_over_seeds(report, self._settings), len(report.each))
            tracker.close(STATUS[report.end])
        if report.end == "failed" and self._ends_lost_runs:
            self._end_abandoned(self._tags(report.claim))
        if self._members is not None:
            self._members.update()
        trials = self._study.get_trials(deepcopy=False)
        finished = [trial for trial in trials if trial.state.is_finished()]
        self._finished = len(finished)
        self._tracker.log_metrics(self._best(finished), len(finished))
        self._describe()

    def last_begun(self) -> None:
        """Prepare the pictures: no further trial begins here, so that workers become free."""
        self._drawing.prepare()

    @property
    def tracker(self) -> Tracker:
        """The study's tracking run."""
        return self._tracker

    @property
    def page(self) -> str | None:
        """The address of the study's page in MLflow; None without a store, or until it has answered."""
        return self._tracker.page

    def _describe(self) -> None:
        self._tracker.set_tags({NOTE_TAG: study_note(self._study, self._settings, self._space)})

    def show(self, runs: Sequence[tuple[Job, Path]]) -> None:
        """Show how far the runs under way are."""
        several = self._settings.seeds_per_trial > 1
        named = [
            (f"{label(job.claim).strip()}{f' seed {job.seed_index}' if several else ''}", RunFolder(folder))
            for job, folder in runs
        ]
        self._lines.update(named, self._finished)

    def _tags(self, claim: Claim) -> dict[str, str]:
        return {"study": self._settings.name, "trial": str(claim.number)}

    def _end_abandoned(self, tags: Mapping[str, str]) -> None:
        """Mark runs as ended whose processes were killed and could not say so themselves."""
        if self._store is None:
            return
        try:
            end_abandoned_runs(self._store.uri, self._store.experiment, tags)
        except TrackingError as error:
            log.warning("%s", error)

    def _best(self, finished: list[optuna.trial.FrozenTrial]) -> dict[str, float]:
        """Return metrics of the study as it stands; its best settings become tags."""
        complete = [trial for trial in finished if trial.state == optuna.trial.TrialState.COMPLETE]
        metrics = {"trials/complete": float(len(complete)), "trials/finished": float(len(finished))}
        if not complete or len(self._settings.directions) > 1:
            return metrics
        (best,) = best_trials(self._study, self._settings)
        self._tracker.set_tags(
            {"best.trial": str(best.number)}
            | {f"best.{plain(key)}": str(value) for key, value in settings_of(best).items()}
        )
        return metrics | {f"best/{self._settings.objectives[0]}": best.values[0]}

    def close(self, status: RunStatus, runner: Runner) -> list[Path]:
        """Draw the study, and end its tracking run and those of `runner`; return the pictures."""
        self._lines.close()
        for tracker in self._open_trials.values():
            tracker.close("KILLED")
        try:
            pictures = self._drawing.pictures(self._study)
        finally:
            self._drawing.close()
        for picture in pictures:
            self._tracker.log_artifact(picture, "plots")
        with given_up_after(partial(self._give_up, runner)):
            if self._opening is not None:
                self._opening.join()
            runner.close()
            if self._members is not None:
                self._members.close(status)
            self._tracker.close(status)
        return pictures

    def _give_up(self, runner: Runner) -> None:
        runner.give_up()
        if self._members is not None:
            self._members.give_up()
        self._tracker.give_up()

    def _run(
        self,
        name: str,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        parent: Tracker | None,
        earlier: str | None,
        *,
        noted: bool = False,
    ) -> Tracker:
        """Open a tracking run. `noted`: what it lacks when this process is killed, the next command sends."""
        if self._store is None:
            return NoTracker()
        description = RunDescription(
            experiment=self._store.experiment,
            run_name=name,
            parameters=parameters,
            tags=dict(tags) | environment_tags(),
            resume_run_id=earlier,
        )
        tracker = MlflowTracker(description, self._store.uri, self._folder / "tracking_backlog.jsonl", parent=parent)
        return NotedTracker(tracker, description, self._folder / name, keeps_metrics=True) if noted else tracker


def plain(key: str) -> str:
    """Return a setting's name without the sign that Hydra wants before one that is not there yet."""
    return key.lstrip("+")


def told(report: TrialReport, settings: StudySettings) -> str:
    """Return one line about a trial that has ended."""
    values = "  ".join(f"{name} {value:,.4g}" for name, value in zip(settings.objectives, report.values, strict=False))
    error = problem_in(report.error) if report.error else ""
    if report.end == "interrupted":  # the error is only how its process took the signal
        error = "runs again under its number"
    return f"{label(report.claim)} {report.end:<11} {error or values}  {chosen(report.claim)}"


def label(claim: Claim) -> str:
    """Return what a trial is called on the terminal, at a constant width."""
    if claim.segment is None:
        return f"trial {claim.number:<4}"
    return f"member {claim.segment.member:<3} generation {claim.segment.generation:<3}"


def chosen(claim: Claim) -> str:
    """Return a trial's settings for the terminal; of a member, also whom it has just copied."""
    settings = " ".join(overrides({key: rounded(value) for key, value in claim.values.items()}))
    copied = None if claim.segment is None else claim.segment.copied_from
    return settings if copied is None else f"{settings} (copy of member {copied})"


def rounded(value: Scalar) -> Scalar:
    """Return a number with few digits, but with as many as tell it from a whole number: 0.9996 is not 1."""
    if not isinstance(value, float):
        return value
    for digits in range(SHOWN_DIGITS, 17):
        text = f"{value:.{digits}g}"
        if not float(text).is_integer() or value.is_integer():
            return text
    return repr(value)


def _over_seeds(report: TrialReport, settings: StudySettings) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, value, column in zip(settings.objectives, report.values, zip(*report.each, strict=True), strict=False):
        spread = statistics.stdev(column) if len(column) > 1 else 0.0
        metrics |= {name: value, f"{name}/mean": statistics.fmean(column), f"{name}/sd": spread}
    return metrics


def _described(settings: StudySettings, space: SearchSpace) -> dict[str, str]:
    """Return the parameters of the study's tracking run; `search.KEY` says what is searched."""
    population = settings.population
    how = {
        "sampler": settings.sampler,
        "pruner": settings.pruning.name,
        "seeds_per_trial": str(settings.seeds_per_trial),
    }
    if population is not None:
        how = {"scheduler": "pbt", "population": str(population.size)}
        how |= {f"scheduler.{key}": str(getattr(population, key)) for key in ("interval", "quantile", "resample")}
    listed = {
        "study": settings.name,
        "objective": ", ".join(settings.objectives),
        "direction": ", ".join(settings.directions),
        **how,
        "fixed": " ".join(settings.fixed),
    }
    return listed | {f"search.{key}": text for key, text in space.in_words().items()}
