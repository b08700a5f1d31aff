"""A study from its settings to its best trial."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from ppolab.errors import ConfigError
from ppolab.study.engine import Runner, Sweep, TrialReport
from ppolab.study.settings import StudySettings, make_pruner, make_sampler
from ppolab.study.space import SearchSpace, overrides
from ppolab.study.storage import StudyStorage, open_storage
from ppolab.study.trials import Trials

IDENTITY = "ppolab"
"""User attribute of a study: what two sweeps must agree on to share it."""


@dataclass(frozen=True)
class StudyResult:
    """How a study stands after a sweep; several best trials where there are several objectives."""

    name: str
    counts: Mapping[str, int]
    best: Sequence[FrozenTrial]
    fixed: tuple[str, ...]

    @property
    def best_values(self) -> list[float] | None:
        """Of the first of the best trials."""
        return list(self.best[0].values) if self.best else None

    @property
    def summary(self) -> str:
        """Closing lines for the terminal."""
        counted = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        lines = [f"study         {self.name}: {counted or 'no trials'}"]
        for trial in self.best[:5]:
            values = ", ".join(f"{value:,.4g}" for value in trial.values)
            lines.append(f"best          {values} (trial {trial.number})")
            command = " ".join(["python src/train.py", *self.fixed, *overrides(trial.params)])
            lines.append(f"train it      {command}")
        return "\n".join(lines)


def run_study(
    settings: StudySettings,
    space: SearchSpace,
    storage_url: str | None,
    folder: Path,
    runner: Runner,
    stopping: Callable[[], bool],
) -> StudyResult:
    """Bring the study to `n_trials`, together with whoever else works on it.

    Raises:
        ConfigError: the space, the sampler, the pruner or the storage cannot be used, or the study exists as another.
        SweepError: too many trials failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check(settings, space)
    storage = open_storage(storage_url, settings.name, folder)
    study = open_study(settings, space, storage)
    trials = Trials(study, storage, space)
    Sweep(settings, trials, runner, _announce(settings), stopping).run()
    return _result(study, settings)


def _check(settings: StudySettings, space: SearchSpace) -> None:
    space.check()
    for key, value in (
        ("n_trials", settings.n_trials), ("seeds_per_trial", settings.seeds_per_trial), ("workers", settings.workers),
        ("max_failures", settings.max_failures),
    ):  # fmt: skip
        if value < 1:
            raise ConfigError(f"{key}={value}: must be 1 or more")
    if len(settings.directions) != len(settings.objectives):
        raise ConfigError(
            f"direction={','.join(settings.directions)}: objective={','.join(settings.objectives)} needs one for each"
        )
    for direction in settings.directions:
        if direction not in ("maximize", "minimize"):
            raise ConfigError(f"direction={direction}: must be maximize or minimize")
    unknown = [key for item in settings.enqueue for key in item if key not in space.dimensions]
    if unknown and space.condition is None:
        raise ConfigError(f"enqueue: {unknown[0]} is not in the search space, which has {', '.join(space.dimensions)}")


def open_study(settings: StudySettings, space: SearchSpace, storage: StudyStorage) -> optuna.Study:
    """The study, made if it is not there yet; raises ConfigError if it is there as another one."""
    identity = {
        "space": space.described(), "fixed": sorted(settings.fixed), "objectives": list(settings.objectives),
        "seeds_per_trial": settings.seeds_per_trial,
    }  # fmt: skip
    with storage.lock(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = make_pruner(settings)
        try:
            study = optuna.create_study(
                storage=storage.optuna, study_name=settings.name, directions=list(settings.directions), pruner=pruner
            )
        except DuplicatedStudyError:
            study = optuna.load_study(study_name=settings.name, storage=storage.optuna, pruner=pruner)
            _check_same(settings, study, identity)
        else:
            study.set_user_attr(IDENTITY, identity)
            for item in settings.enqueue:
                study.enqueue_trial(dict(item))
        finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        study.sampler = make_sampler(settings, space, finished)
    return study


def _check_same(settings: StudySettings, study: optuna.Study, identity: dict[str, Any]) -> None:
    stored = study.user_attrs.get(IDENTITY)
    directions = tuple(direction.name.lower() for direction in study.directions)
    if stored == json.loads(json.dumps(identity)) and directions == settings.directions:
        return
    different = "direction"
    if isinstance(stored, dict):
        different = next((key for key, value in identity.items() if stored.get(key) != value), different)
    raise ConfigError(
        f"study_name={settings.name}: exists with another {different}; take another study_name, or the same settings as "
        "before"
    )


def _announce(settings: StudySettings) -> Callable[[TrialReport], None]:
    """One line per trial."""

    def announce(report: TrialReport) -> None:
        values = " ".join(f"{name} {value:,.4g}" for name, value in zip(settings.objectives, report.values, strict=False))
        chosen = " ".join(overrides(report.claim.values))
        error = report.error.strip().splitlines()[-1] if report.error else ""
        print(f"trial {report.claim.number:<4} {report.end:<9} {values or error}  {chosen}", flush=True)

    return announce


def _result(study: optuna.Study, settings: StudySettings) -> StudyResult:
    trials = study.get_trials(deepcopy=False)
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
    complete = any(trial.state == TrialState.COMPLETE for trial in trials)
    best = study.best_trials if complete else []
    return StudyResult(settings.name, counts, best, settings.fixed)
