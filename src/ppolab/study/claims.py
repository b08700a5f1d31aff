"""Which trial is run next, by whom, and how it ended: nothing here depends on who else works on the study."""

from __future__ import annotations

import os
import socket
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from ppolab.study.space import Scalar, SearchSpace
from ppolab.study.storage import StudyStorage

OWNER = "owner"
"""User attribute of a trial: the process that runs it."""
ERROR = "error"
"""User attribute of a failed trial: its traceback, or how its process ended."""
SETTINGS = "settings"
"""User attribute of a trial in a space with a condition: what it sets, which need not be what was suggested."""


def trial_name(number: int, seed_index: int | None = None) -> str:
    """Of its folder and its tracking run; with `seed_index`, of one run of a trial that has several."""
    return f"trial-{number:04d}" + ("" if seed_index is None else f"-seed-{seed_index}")


def settings_of(trial: FrozenTrial) -> Mapping[str, Scalar]:
    """What the runs of a trial set, by key."""
    found: Mapping[str, Scalar] = trial.user_attrs.get(SETTINGS, trial.params)
    return found


@dataclass(frozen=True)
class Owner:
    """A process, told apart from a later one with the same number by when it started (in ticks since boot)."""

    host: str
    pid: int
    started: int

    @classmethod
    def of_this_process(cls) -> Owner:
        """The one that calls."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()) or 0)

    def is_gone(self) -> bool:
        """Surely dead; False for processes of other machines, which cannot be seen."""
        return self.host == socket.gethostname() and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


@dataclass(frozen=True)
class Claim:
    """A trial to run, with its values by key; `again` if an earlier process did not finish it.

    `error`: the traceback of a space whose condition raised; there is nothing to run then.
    """

    number: int
    trial_id: int
    values: Mapping[str, Scalar]
    again: bool
    error: str = ""


class Trials:
    """The trials of one study, shared with any number of other processes."""

    def __init__(self, study: optuna.Study, storage: StudyStorage, space: SearchSpace) -> None:
        self._study = study
        self._storage = storage
        self._space = space
        self._owner = Owner.of_this_process()

    def claim(self, n_trials: int) -> Claim | None:
        """A trial that nobody runs: one whose process is gone, else a new one; None when `n_trials` are taken.

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
        """Ids of running trials without a sign of life; only an SQL storage keeps those."""
        if not self._storage.has_heartbeat:
            return []
        return self._storage.optuna._get_stale_trial_ids(self._study._study_id)  # type: ignore[attr-defined, no-any-return]

    def show_life(self, trial_ids: Sequence[int]) -> None:
        """To be called for the trials that run here, more often than every GRACE_SECONDS."""
        if self._storage.has_heartbeat:
            for trial_id in trial_ids:
                self._storage.optuna.record_heartbeat(trial_id)  # type: ignore[attr-defined]

    def complete(self, claim: Claim, values: Sequence[float], notes: Mapping[str, Any]) -> None:
        """Finished with one value per objective."""
        self._note(claim, notes)
        self._study.tell(claim.number, list(values), TrialState.COMPLETE)

    def prune(self, claim: Claim, notes: Mapping[str, Any]) -> None:
        """Stopped by the pruner; its last intermediate value stands."""
        self._note(claim, notes)
        self._study.tell(claim.number, state=TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, notes: Mapping[str, Any]) -> None:
        """Raised, or its process died."""
        self._note(claim, {**notes, ERROR: error})
        self._study.tell(claim.number, state=TrialState.FAIL)

    def _note(self, claim: Claim, notes: Mapping[str, Any]) -> None:
        for key, value in notes.items():
            self._storage.optuna.set_trial_user_attr(claim.trial_id, key, value)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Store an intermediate value; whether the pruner wants the trial to end. Seen again, a step is overwritten."""
        self._storage.optuna.set_trial_intermediate_value(claim.trial_id, step, value)
        return Trial(self._study, claim.trial_id).should_prune()
