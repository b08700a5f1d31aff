"""Select the runs of a report from a store, and score them by task, method and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ppolab.config.schema import effect_of
from ppolab.errors import ConfigError, nearest
from ppolab.records.tracking import KIND_TAG, SEGMENT, StoredRun, StoreReader, redact
from ppolab.reports.method_names import (
    TASK,
    as_recorded_now,
    beside_the_kind,
    method_names,
    task_names,
    with_values_left_out,
)
from ppolab.reports.settings import ReportConfig

SEED = "seed"
MOST_NAMED = 8
LARGEST = 1e300
"""A database takes no infinities; MLflow puts the largest number in their place."""
RESUMED_WITH = "resumed_with"
CHANGED_PARAMETERS = '{"parameters": '
"""The beginning of the tag RESUMED_WITH."""


@dataclass(frozen=True)
class Scored:
    """Hold a run that counts: its task, its method and its score."""

    run: StoredRun
    task: str
    method: str
    score: float

    @property
    def seed(self) -> str:
        """Return the seed as the store has it."""
        return self.run.parameters[SEED]


@dataclass(frozen=True)
class Collection:
    """Hold the runs of a report.

    Attributes:
        tasks, methods: in the order in which they are shown. remarks: notes for the reader on the choice of runs.
    """

    runs: Sequence[Scored]
    tasks: Sequence[str]
    methods: Sequence[str]
    remarks: Sequence[str] = field(default_factory=list)

    def of(self, task: str, method: str) -> list[Scored]:
        """Return the runs of one method on one task, by seed."""
        return self._groups.get((task, method), [])

    @cached_property
    def _groups(self) -> dict[tuple[str, str], list[Scored]]:
        groups: dict[tuple[str, str], list[Scored]] = {}
        for run in self.runs:
            groups.setdefault((run.task, run.method), []).append(run)
        return groups

    @cached_property
    def common_tasks(self) -> list[str]:
        """Return the tasks on which every method has runs: only over these are methods compared."""
        return [task for task in self.tasks if all(self.of(task, method) for method in self.methods)]


def collect(settings: ReportConfig, reader: StoreReader) -> Collection:
    """Return the runs that `settings` select, with their scores.

    Raises:
        ConfigError: there are none, or a setting does not fit them.
    """
    training = _training_runs(_selected(settings, reader), settings)
    remarks: list[str] = []
    finished = [run for run in training if run.status == "FINISHED"]
    if not finished:
        raise ConfigError(f"{_asked(settings)}: of {_told(training)} none has finished; wait for the first one")
    _remark(remarks, "not finished", _without(training, finished), lambda run: f"{_name(run)} {run.status}")
    measured = [run for run in finished if settings.metric in run.metrics]
    if not measured:
        raise ConfigError(f"metric={settings.metric}: none of the {len(finished)} finished runs has logged it")
    _remark(remarks, f"without {settings.metric}", _without(finished, measured), _name)
    scored = _scored(measured, settings)
    counted = _newest(scored)
    older = _without(measured, [run.run for run in counted])
    _remark(remarks, f"older than another of the same task, method and seed{_mixed(scored)}", older, _name)
    for run in counted:
        if not abs(run.score) < LARGEST:
            raise ConfigError(
                f"metric={settings.metric}: is {run.score:g} in run {_name(run.run)}; a score must be finite: choose "
                "another metric, or delete that run"
            )
    kept = [run.run for run in counted]
    beside = beside_the_kind(kept, [run.task for run in counted]) if settings.compare is None else []
    if beside:
        remarks.append(f"Methods of different algorithms or optimizers also differ in {', '.join(beside)}.")
    tasks, methods = {run.task for run in counted}, list(dict.fromkeys(run.method for run in counted))
    return Collection(counted, sorted(tasks), methods, remarks)


# --- which runs ------------------------------------------------------------------------------------------------------


def _selected(settings: ReportConfig, reader: StoreReader) -> list[StoredRun]:
    experiment = settings.runs.experiment
    if experiment is not None:
        known = reader.experiments()
        if experiment not in known:
            there = ", ".join(known)
            raise ConfigError(f"experiment={experiment}: the store has none of that name{nearest(experiment, known)}; "
                              f"there are {there}")  # fmt: skip
    return reader.runs(experiment, settings.tags)


def _training_runs(found: Sequence[StoredRun], settings: ReportConfig) -> list[StoredRun]:
    """Return those that trained: not those of studies, of trials with several seeds, of populations, and of reports."""
    parents = {run.parent for run in found}
    training = [
        as_recorded_now(as_last_trained(run))
        for run in found
        if run.run_id not in parents and {TASK, SEED} <= run.parameters.keys() and run.tags.get(KIND_TAG) != SEGMENT
    ]
    if not training:
        raise ConfigError(f"{_asked(settings)}: the store has no such run; list the runs with `make ui`")
    return with_values_left_out(training)


def as_last_trained(run: StoredRun) -> StoredRun:
    """Return a run that was resumed with the parameters of its last resume.

    A store lets no parameter change, so the tag `resumed_with` holds those that do; it may be cut behind them.
    """
    text = run.tags.get(RESUMED_WITH, "")
    if not text.startswith(CHANGED_PARAMETERS):
        return run
    try:
        changed, _ = json.JSONDecoder().raw_decode(text, len(CHANGED_PARAMETERS))
    except ValueError:  # cut within the parameters
        return run
    return replace(run, parameters={**run.parameters, **changed})


def _asked(settings: ReportConfig) -> str:
    return settings.selection or f"tracking_uri={redact(settings.tracking_uri or 'the default store')}"


def _newest(scored: Sequence[Scored]) -> list[Scored]:
    """Return one run per task, method and seed; `scored` begins with the newest."""
    newest: dict[tuple[str, str, str], Scored] = {}
    for run in scored:
        newest.setdefault((run.task, run.method, run.seed), run)
    order = {run.run.run_id: place for place, run in enumerate(scored)}
    kept = sorted(newest.values(), key=lambda run: order[run.run.run_id])
    return sorted(kept, key=lambda run: (_sortable(run.method), run.task, _sortable(run.seed)))


def _without(runs: Sequence[StoredRun], kept: Sequence[StoredRun]) -> list[StoredRun]:
    ids = {run.run_id for run in kept}
    return [run for run in runs if run.run_id not in ids]


# --- tasks and methods -----------------------------------------------------------------------------------------------


def _scored(runs: Sequence[StoredRun], settings: ReportConfig) -> list[Scored]:
    tasks = task_names(runs)
    methods = method_names(runs, tasks, settings.compare)
    return [
        Scored(run, task, method, float(run.metrics[settings.metric]))
        for run, task, method in zip(runs, tasks, methods, strict=True)
    ]


def _sortable(text: str) -> tuple[tuple[int, float, str], ...]:
    """Return a key that sorts numbers by size, before words."""
    parts: list[tuple[int, float, str]] = []
    for part in text.replace("=", ", ").split(", "):
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        parts.append((1, 0.0, part) if math.isnan(number) else (0, number, ""))
    return tuple(parts)


# --- what is said about them -----------------------------------------------------------------------------------------


def _name(run: StoredRun) -> str:
    return f"{run.name} ({run.run_id[:8]})"


def _told(runs: Sequence[StoredRun]) -> str:
    return "one run" if len(runs) == 1 else f"{len(runs)} runs"


def _remark(remarks: list[str], why: str, runs: Sequence[StoredRun], told: Callable[[StoredRun], str]) -> None:
    """Add one line about runs that are left out, if there are any."""
    if runs:
        names = [told(run) for run in runs[:MOST_NAMED]]
        more = [f"and {len(runs) - MOST_NAMED} more"] if len(runs) > MOST_NAMED else []
        remarks.append(f"Not counted: {_told(runs)}, {why}: {', '.join([*names, *more])}.")


def _mixed(scored: Sequence[Scored]) -> str:
    """A warning where runs that are taken for the same have different settings."""
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for run in scored:
        groups.setdefault((run.task, run.method, run.seed), []).append(run.run.parameters)
    keys = {key for same in groups.values() for parameters in same for key in parameters}
    apart = [
        key for key in sorted(keys)
        if effect_of(key).mentioned
        and any(len({parameters.get(key) for parameters in same}) > 1 for same in groups.values())
    ]  # fmt: skip
    return f" (though they differ in {', '.join(apart)})" if apart else ""
