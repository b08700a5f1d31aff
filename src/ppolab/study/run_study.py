"""Run a study, from its settings to its best trial."""

from __future__ import annotations

import json
import math
import re
import shlex
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ppolab.errors import ConfigError
from ppolab.records.tracking import RunStatus, page_rows, redact
from ppolab.records.wording import next_command
from ppolab.study.claims import Trials
from ppolab.study.drawing import Drawing, StoredStudy
from ppolab.study.population_trials import PopulationTrials
from ppolab.study.search_space import Choice, Interval, Scalar, SearchSpace
from ppolab.study.settings import StudySettings, check_options, check_pruning, make_pruner, make_sampler
from ppolab.study.storage import StudyStorage, open_storage
from ppolab.study.store import Store
from ppolab.study.study_note import best_trials, called, command_of, run_of
from ppolab.study.study_record import StudyRecord
from ppolab.study.sweep_loop import Runner, Sweep

IDENTITY = "ppolab"
"""User attribute of a study: the settings in which two sweeps must agree to share it."""


@dataclass(frozen=True)
class StudyResult:
    """Hold the state of a study after a sweep; several best trials where there are several objectives.

    `idle`: the share of the workers' time, from the command to its end, in which they had no trial; None without one.
    """

    settings: StudySettings
    counts: Mapping[str, int]
    best: Sequence[FrozenTrial]
    storage: str
    pictures: Sequence[Path]
    idle: float | None = None
    page_rows: Sequence[tuple[str, str]] = ()

    @property
    def best_values(self) -> list[float] | None:
        """Return the values of the first of the best trials; None without a complete trial."""
        return list(self.best[0].values) if self.best else None

    @property
    def all_failed(self) -> bool:
        """Return whether trials have ended, and every one with an error."""
        return self.counts["fail"] > 0 and not (self.counts["complete"] or self.counts["pruned"])

    @property
    def summary(self) -> str:
        """Return the closing lines for the terminal."""
        counted = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        lines = [f"study         {self.settings.name}: {counted or 'no trials'}"]
        for trial in self.best:
            values = ", ".join(f"{value:,.4g}" for value in trial.values)
            lines.append(f"best          {values} ({called(trial, self.settings)})")
            if self.settings.population is None:
                lines.append(f"train it      {command_of(trial, self.settings.fixed)}")
            else:
                lines.append(f"evaluate it   {next_command('evaluate', 'run', run_of(trial))}")
        if self.idle is not None:
            lines.append(f"workers       idle for {self.idle:.0%} of their time")
        if self.pictures:
            lines.append(f"plots         {self.pictures[0].parent}")
        lines.append(f"browse        {shlex.join(['optuna-dashboard', self.storage])}")
        lines += [f"{name:<13} {text}" for name, text in self.page_rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class StudyPlace:
    """Say where a study is kept.

    Attributes:
        storage: URL, or None for a file in `folder`. folder: plots go to `folder`/NAME. store: None for no tracking.
    """

    storage: str | None
    folder: Path
    store: Store | None


def run_study(
    settings: StudySettings,
    space: SearchSpace,
    place: StudyPlace,
    runner: Runner,
    stopping: Callable[[], bool],
    *,
    progress: bool = True,
    drawing_processes: int = 0,
) -> StudyResult:
    """Bring the study to `n_trials`, together with all others who work on it.

    Args:
        progress: False leaves out how far runs are while they train.
        drawing_processes: so many draw the study; with 0, this one does.

    Raises:
        ConfigError: the space, the sampler, the pruner or the storage cannot be used, or the study exists as another.
        SweepError: too many trials failed.
    """
    check_study(settings, space)
    storage = open_storage(place.storage, settings.name, place.folder)
    study = open_study(settings, space, storage)
    folder = place.folder / settings.name
    stored = StoredStudy(place.storage, place.folder, settings.name)
    drawing = Drawing(stored, settings, folder / "plots", drawing_processes)
    record = StudyRecord(
        study, settings, space, place.store, folder, drawing,
        ends_lost_runs=not runner.ends_lost_runs, progress=progress,
    )  # fmt: skip
    record.open(storage)
    if place.store is not None:
        runner.send_again(folder, place.store.uri, record.tracker)
    sweep = Sweep(settings, _trials(settings, study, storage, space), runner, record, stopping)
    pictures: list[Path] = []
    status: RunStatus = "FAILED"
    try:
        sweep.run()
        status = "KILLED" if stopping() else "FINISHED"
    finally:
        pictures = record.close(status, runner)
    rows = page_rows(record.page, place.store.uri) if place.store else []
    return replace(_result(study, settings, storage, pictures), page_rows=rows, idle=_idle(sweep, runner))


def _trials(
    settings: StudySettings, study: optuna.Study, storage: StudyStorage, space: SearchSpace
) -> Trials | PopulationTrials:
    if settings.population is None:
        return Trials(study, storage, space)
    given = [enqueued(item, space) for item in settings.enqueue]
    return PopulationTrials(study, storage, space, settings.population, given)


def _idle(sweep: Sweep, runner: Runner) -> float | None:
    """Return the share of the workers' time in which they had no run, from the start of this process on."""
    if sweep.busy_seconds == 0.0:
        return None
    seconds = time.time() - psutil.Process().create_time()
    return max(0.0, 1.0 - sweep.busy_seconds / (runner.capacity * seconds))


def check_study(settings: StudySettings, space: SearchSpace) -> None:
    """Raise ConfigError for the first setting with which no study can be run.

    Some are tried out in studies in memory, so Optuna is told here to keep its notices to itself.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space.check()
    if not re.fullmatch(r"[^/\0]+", settings.name) or settings.name in (".", ".."):
        raise ConfigError(f"study_name={settings.name}: names a folder and a file; leave out the slash")
    check_pruning(settings, space)
    for key in ("n_trials", "seeds_per_trial", "workers", "max_failures"):
        if getattr(settings, key) < 1:
            raise ConfigError(f"{key}={getattr(settings, key)}: must be 1 or more")
    if settings.timeout is not None and settings.timeout <= 0:
        raise ConfigError(f"timeout={settings.timeout:g}: must be greater than 0")
    if settings.seeds_per_trial > 1 and "seed" in space.dimensions:
        raise ConfigError(
            f"seeds_per_trial={settings.seeds_per_trial}: sets the seeds itself, and seed is searched; leave out one"
        )
    if len(settings.directions) != len(settings.objectives):
        raise ConfigError(
            f"direction={','.join(settings.directions)}: objective={','.join(settings.objectives)} needs one for each"
        )
    for direction in settings.directions:
        if direction not in ("maximize", "minimize"):
            raise ConfigError(f"direction={direction}: must be maximize or minimize")
    for item in settings.enqueue:
        enqueued(item, space)
    check_options(settings, space)


def enqueued(item: Mapping[str, Any], space: SearchSpace) -> dict[str, Scalar]:
    """Return settings to try first, as the space writes them; raise ConfigError for those that it does not hold."""
    values: dict[str, Scalar] = {}
    for key, value in item.items():
        dimension = space.dimensions.get(key)
        if dimension is None and space.condition is None:
            raise ConfigError(f"enqueue: {key} is not searched; the space has {', '.join(space.dimensions)}")
        if isinstance(dimension, Choice):
            values[key] = _chosen(key, value, dimension)
        elif isinstance(dimension, Interval):
            values[key] = _inside(key, value, dimension)
        else:
            values[key] = value
    return values


def _chosen(key: str, value: object, dimension: Choice) -> str:
    """Return the choice that means `value`, however either is written: 1e-3 and 0.001, [32,32] and [32, 32]."""
    for choice in dimension.values:
        if _means(choice, value):
            return choice
    raise ConfigError(f"enqueue: {key}={value} is not among its choices, {', '.join(dimension.values)}")


def _means(choice: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return choice.lower() == ("null" if value is None else str(value).lower())
    if isinstance(value, int | float):
        try:
            return float(choice) == value
        except ValueError:
            return False
    return re.sub(r"[\s'\"]", "", choice) == re.sub(r"[\s'\"]", "", str(value))


def _inside(key: str, value: object, dimension: Interval) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not dimension.low <= value <= dimension.high:  # type: ignore[operator]
        raise ConfigError(f"enqueue: {key}={value} is not between {dimension.low:g} and {dimension.high:g}")
    assert isinstance(value, int | float)
    step = dimension.step or (1 if dimension.integer else None)
    if step is not None and not math.isclose((value - dimension.low) / step, round((value - dimension.low) / step)):
        raise ConfigError(f"enqueue: {key}={value} is not {dimension.low:g} plus a multiple of {step:g}")
    return int(value) if dimension.integer else float(value)


def open_study(settings: StudySettings, space: SearchSpace, storage: StudyStorage) -> optuna.Study:
    """Return the study, made if it is not there yet; raise ConfigError if it is there as another one."""
    identity = {
        "search space": space.described(),
        "objective": list(settings.objectives),
        "seeds_per_trial": settings.seeds_per_trial,
        **({} if settings.population is None else _identity_of(settings)),
        **settings.identity,
    }
    with storage.lock(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = make_pruner(settings.pruning)
        try:
            study = optuna.create_study(
                storage=storage.optuna,
                study_name=settings.name,
                directions=[StudyDirection[name.upper()] for name in settings.directions],
                pruner=pruner,
            )
        except DuplicatedStudyError:
            study = optuna.load_study(study_name=settings.name, storage=storage.optuna, pruner=pruner)
            _check_same(settings, study, identity)
        else:
            study.set_user_attr(IDENTITY, identity)
            study.set_metric_names(list(settings.objectives))
        for item in settings.enqueue if settings.population is None else ():
            study.enqueue_trial(enqueued(item, space), skip_if_exists=True)
        study.sampler = make_sampler(settings, space)
    return study


def _identity_of(settings: StudySettings) -> dict[str, Any]:
    """Return in what two sweeps must also agree to train one population: all that its lineage follows from."""
    assert settings.population is not None
    population = settings.population
    return {
        "population": population.size,
        **{f"scheduler.{key}": getattr(population, key) for key in ("interval", "quantile", "resample")},
        "seed": population.seed,
        "enqueue": [dict(item) for item in settings.enqueue],
    }


def _check_same(settings: StudySettings, study: optuna.Study, identity: Mapping[str, Any]) -> None:
    stored = study.user_attrs.get(IDENTITY, {})
    now = json.loads(json.dumps(identity))
    directions = [direction.name.lower() for direction in study.directions]
    if directions != list(settings.directions):
        raise _another(settings, "direction", directions, list(settings.directions))
    defaults = json.loads(json.dumps(dict(settings.defaults)))
    for key in {**now, **stored}:
        if key not in stored and key in defaults and now[key] == defaults[key]:
            continue  # a setting that the version which made the study did not have yet
        if stored.get(key) != now.get(key):
            raise _another(settings, key, stored.get(key), now.get(key))


def _another(settings: StudySettings, key: str, stored: object, now: object) -> ConfigError:
    return ConfigError(
        f"study_name={settings.name}: exists with another {key} ({_short(stored)}, not {_short(now)}); choose another "
        "study_name, or give the same settings as before"
    )


def _short(value: object) -> str:
    text = ", ".join(f"{key}: {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _result(
    study: optuna.Study, settings: StudySettings, storage: StudyStorage, pictures: Sequence[Path]
) -> StudyResult:
    trials = study.get_trials(deepcopy=False)
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
    return StudyResult(settings, counts, best_trials(study, settings), redact(storage.url), pictures)
