"""Share the trials of a study between processes: claim one, report on it, end it."""

from __future__ import annotations

import os
import socket
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import psutil
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ppolab.study.population import MemberSegment
from ppolab.study.search_space import Scalar, SearchSpace
from ppolab.study.storage import StudyStorage

OWNER = "owner"
"""User attribute of a trial: the process that runs it."""
ERROR = "error"
"""User attribute of a failed trial: its traceback, or how its process ended."""
SETTINGS = "settings"
"""User attribute of a trial in a space with a condition: its settings, which may differ from what was suggested."""
CLOCK_SECONDS = 5.0
"""Start times of one process may differ by so much, since the system derives them from a clock that is corrected."""


def trial_name(number: int, seed_index: int | None = None) -> str:
    """Return the name of a trial's folder and tracking run, or of one seed of a trial that has several."""
    return f"trial-{number:04d}" + ("" if seed_index is None else f"-seed-{seed_index}")


def settings_of(trial: FrozenTrial) -> Mapping[str, Scalar]:
    """Return the settings of a trial's runs, by key."""
    found: Mapping[str, Scalar] = trial.user_attrs.get(SETTINGS, trial.params)
    return found


@dataclass(frozen=True)
class Owner:
    """Name the process that runs a trial.

    Attributes:
        started: seconds since 1970. A later process may have the same number, but not the same start.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return the owner that stands for the calling process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def is_gone(self) -> bool:
        """Return whether the process has surely ended. False for processes of other machines and of other users."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return True
            return bool(abs(process.create_time() - self.started) > CLOCK_SECONDS)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


@dataclass(frozen=True)
class Claim:
    """Hold a trial to run and its values by key.

    Attributes:
        again: an earlier process did not finish this trial.
        error: the traceback of a condition that raised; there is nothing to run then.
        segment: what of which member it trains, in a population; else None.
    """

    number: int
    trial_id: int
    values: Mapping[str, Scalar]
    again: bool
    error: str = ""
    segment: MemberSegment | None = None

    @property
    def name(self) -> str:
        """The name of the trial's folder and tracking run, where it is one run."""
        return trial_name(self.number) if self.segment is None else self.segment.name


class SharedTrials:
    """Work on the trials of one study, which any number of other processes share."""

    def __init__(self, study: optuna.Study, storage: StudyStorage, space: SearchSpace) -> None:
        self._study = study
        self._storage = storage
        self._space = space
        self._owner = Owner.of_this_process()

    def _lost(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        silent = set(self._silent()) if running else set()
        return [trial for trial in running if self._is_lost(trial, silent)]

    def _is_lost(self, trial: FrozenTrial, silent: set[int]) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:  # its process died between the two; nobody else can be there while the lock is held
            return True
        return Owner(**owner).is_gone() or (owner["host"] != self._owner.host and trial._trial_id in silent)

    def _silent(self) -> list[int]:
        """Return the ids of running trials without a sign of life; only an SQL storage keeps those."""
        if not self._storage.has_heartbeat:
            return []
        return self._storage.optuna._get_stale_trial_ids(self._study._study_id)  # type: ignore[attr-defined, no-any-return]

    def show_life(self, trial_ids: Sequence[int]) -> None:
        """Record that these trials run here; to be called more often than every GRACE_SECONDS."""
        if self._storage.has_heartbeat:
            for trial_id in trial_ids:
                self._storage.optuna.record_heartbeat(trial_id)  # type: ignore[attr-defined]

    def complete(self, claim: Claim, values: Sequence[float], notes: Mapping[str, Any]) -> None:
        """End a trial that finished, with one value per objective."""
        self._note(claim, notes)
        self._study.tell(claim.number, list(values), TrialState.COMPLETE)

    def prune(self, claim: Claim, notes: Mapping[str, Any]) -> None:
        """End a trial that the pruner stopped; its last intermediate value becomes its value."""
        self._note(claim, notes)
        self._study.tell(claim.number, state=TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, notes: Mapping[str, Any]) -> None:
        """End a trial that raised `error`, or whose process died."""
        self._note(claim, {**notes, ERROR: error})
        self._study.tell(claim.number, state=TrialState.FAIL)

    def _note(self, claim: Claim, notes: Mapping[str, Any]) -> None:
        for key, value in notes.items():
            self._storage.optuna.set_trial_user_attr(claim.trial_id, key, value)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Store an intermediate value, over an earlier one of the same step; return whether the trial should end."""
        return report(self._study, self._storage.optuna, claim.trial_id, {step: value})


class Trials(SharedTrials):
    """Hand out trials whose settings a sampler suggests."""

    def claim(self, n_trials: int) -> Claim | None:
        """Return a trial that nobody runs: one whose process is gone, else a new one. None if there are `n_trials`.

        Finished trials count whether complete, pruned or failed, and so do those that run elsewhere.
        """
        with self._storage.lock():
            trials = self._study.get_trials(deepcopy=False)
            lost = self._lost(trials)
            if lost:
                return self._start(Trial(self._study, lost[0]._trial_id), again=True)
            if sum(trial.state != TrialState.WAITING for trial in trials) >= n_trials:
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that heartbeats are for Study.optimize
                trial = self._study.ask()
            return self._start(trial, again=False)

    def _start(self, trial: Trial, *, again: bool) -> Claim:
        trial.set_user_attr(OWNER, asdict(self._owner))
        self.show_life([trial._trial_id])
        try:
            values = self._space.suggest(trial)
        except Exception:  # whatever a condition of the user's own may raise
            return Claim(trial.number, trial._trial_id, {}, again, traceback.format_exc())
        if self._space.condition is not None:
            trial.set_user_attr(SETTINGS, values)
        return Claim(trial.number, trial._trial_id, values, again)


def report(study: optuna.Study, storage: BaseStorage, trial_id: int, values: Mapping[int, float]) -> bool:
    """Store intermediate values by step, and return whether the pruner wants the trial to end.

    The trial is read only after they are stored, since the pruner judges the last step that it finds there.
    """
    for step, value in values.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    return bool(study.pruner.prune(study, storage.get_trial(trial_id)))
