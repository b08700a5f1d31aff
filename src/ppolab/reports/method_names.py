"""Name the runs of a report: the task of each, and its method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from ppolab.config.algorithms import ABOUT
from ppolab.config.recorded import telling, value_left_out
from ppolab.config.schema import effect_of
from ppolab.errors import ConfigError, nearest, spelled
from ppolab.records.tracking import StoredRun

TASK = "env.id"
TASK_ARGUMENTS = "env.kwargs"
"""Itself a parameter where there are no arguments, else the beginning of theirs."""
ALGORITHM = "algorithm.name"
KIND = (ALGORITHM, "optimizer._target_")
"""What tells runs with different sets of settings apart: others are compared between runs that agree in these."""
UNREAD = "algorithm.ignores"
"""What earlier versions recorded with a run: the settings that its algorithm does not read."""
FACTS = tuple(f"algorithm.{key}" for key in ABOUT if key != "name")
"""What follows from an algorithm's name."""
ONLY_METHOD = "all runs"
"""The method of runs that differ in nothing."""

Values = dict[tuple[str | None, ...], set[str | None]]


def task_names(runs: Sequence[StoredRun]) -> list[str]:
    """Return the environment of each run, with those of its arguments in which runs of the same environment differ."""
    values: dict[str, dict[str, set[str | None]]] = {}
    keys = sorted({key for run in runs for key in run.parameters if key.startswith(TASK_ARGUMENTS)})
    for run in runs:
        of_env = values.setdefault(run.parameters[TASK], {})
        for key in keys:
            of_env.setdefault(key, set()).add(run.parameters.get(key))
    names = []
    for run in runs:
        env = run.parameters[TASK]
        apart = {key.removeprefix(TASK_ARGUMENTS): key for key in keys if len(values[env][key]) > 1}
        told = ", ".join(f"{name[1:]}={shown(run.parameters.get(key))}" for name, key in apart.items() if name)
        names.append(f"{env} ({told})" if told else env)
    return names


def method_names(runs: Sequence[StoredRun], tasks: Sequence[str], compare: Sequence[str] | None) -> list[str]:
    """Return the method of each run: the values of the parameters that make one up.

    A parameter that the run's algorithm or optimizer does not have is left out. A run that has none of them is named by
    its algorithm.

    Raises:
        ConfigError: `compare` names what no run has.
    """
    keys = differing(runs, tasks) if compare is None else _compared(compare, runs, tasks)
    had = {(kind_of(run), key) for run in runs for key in run.parameters}
    names = [", ".join(_typed(run, key) for key in keys if (kind_of(run), key) in had) for run in runs]
    if not any(names):
        return [ONLY_METHOD] * len(runs)
    return [name or _beside_methods(run, keys) for run, name in zip(runs, names, strict=True)]


def _typed(run: StoredRun, key: str) -> str:
    return f"{'algorithm' if key == ALGORITHM else key}={shown(run.parameters.get(key))}"


def _beside_methods(run: StoredRun, keys: Sequence[str]) -> str:
    """Return the method of a run that has none of the parameters `keys`, which other runs have."""
    return _typed(run, ALGORITHM) if run.parameters.get(ALGORITHM) else f"without {', '.join(keys)}"


def differing(runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """Return the parameters in which runs on one task differ: their kinds, and others between runs of one kind.

    What differs only between tasks belongs to the task, and what differs only between algorithms to the algorithm.
    """
    apart = _apart(runs, [(task, *kind_of(run)) for run, task in zip(runs, tasks, strict=True)])
    kinds = _apart(runs, [(task,) for task in tasks])
    return [*(key for key in KIND if key in kinds), *sorted(apart - set(KIND))]


def beside_the_kind(runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """Return the parameters that all kinds have and in which only runs of different kinds differ."""
    found = set()
    between = _apart(runs, [(task,) for task in tasks]) - set(differing(runs, tasks)) - set(KIND)
    kinds = {kind_of(run) for run in runs}
    for key in between:
        readers = {kind_of(run) for run in runs if key in run.parameters}
        if readers == kinds:
            found.add(key)
    return sorted(key for key in found if not key.startswith("algorithm."))


def kind_of(run: StoredRun) -> tuple[str | None, ...]:
    """Return the algorithm and the optimizer of a run."""
    return tuple(run.parameters.get(key) for key in KIND)


def shown(value: str | None) -> str:
    """Return a parameter's value as it is typed on the command line."""
    return "unset" if value is None else spelled(value)


def _apart(runs: Sequence[StoredRun], groups: Sequence[tuple[str | None, ...]]) -> set[str]:
    """Return the parameters in which runs of one group differ, if they are read and tell methods apart."""
    keys = {key for run in runs for key in run.parameters if tells_methods_apart(key)}
    values: Values = {}
    for run, group in zip(runs, groups, strict=True):
        for key in keys:
            values.setdefault((key, *group), set()).add(run.parameters.get(key))
    return {str(key) for (key, *_), found in values.items() if len(found) > 1}


def as_recorded_now(run: StoredRun) -> StoredRun:
    """Return a run with the parameters that a run of today has: earlier versions recorded all settings."""
    return replace(run, parameters=telling(run.parameters, _listed(run.parameters.get(UNREAD) or "")))


def with_values_left_out(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Return the runs; what one recorded, and others left out since they had its usual value, all have."""
    keys = {key for run in runs for key in run.parameters}
    filled = []
    for run in runs:
        usual = {key: value_left_out(key, run.parameters.get(ALGORITHM, "")) for key in keys - run.parameters.keys()}
        known = {key: value for key, value in usual.items() if value is not None}
        filled.append(replace(run, parameters={**run.parameters, **known}))
    return filled


@cache
def _listed(text: str) -> frozenset[str]:
    """Return the names in a list as the store has it."""
    return frozenset(re.findall(r"[\w.]+", text))


def _compared(compare: Sequence[str], runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """Return the parameters that `compare` names; of a group those in which runs differ."""
    known = {key for run in runs for key in run.parameters}
    apart = differing(runs, tasks)
    keys: list[str] = []
    for name in compare:
        group = [key for key in sorted(known) if key.startswith(f"{name}.")]
        if name not in known and not group:
            raise ConfigError(f"compare={name}: no run has such a parameter{nearest(name, known)}")
        keys += [name] if name in known else [key for key in group if key in apart]
    return list(dict.fromkeys(keys))


def tells_methods_apart(key: str) -> bool:
    """Return whether runs that differ in the parameter `key` are of different methods, unless `compare` says more."""
    return key not in FACTS and effect_of(key).of_method
