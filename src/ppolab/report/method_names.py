"""What the runs of a report are called: the task of each, and its method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from ppolab.errors import ConfigError, nearest, spelled
from ppolab.family import ABOUT
from ppolab.tracking import StoredRun

TASK = "env.id"
TASK_ARGUMENTS = "env.kwargs"
"""Itself a parameter where there are no arguments, else the beginning of theirs."""
ALGORITHM = "algorithm.name"
KIND = (ALGORITHM, "optimizer._target_")
"""What tells runs with different sets of settings apart: others are compared between runs that agree in these."""
UNREAD = "algorithm.ignores"
NOT_OF_A_METHOD = (
    "seed", "env.", "logger.", "resume", "objective", "eval_interval", "eval_episodes", "checkpoint_interval",
    "keep_checkpoints", "compile", "trainer.accelerator", "trainer.threads",
    *(f"algorithm.{key}" for key in ABOUT if key != "name"),
)  # fmt: skip
"""Settings (or groups, with a point) that do not tell methods apart, unless `compare` names them."""
ONLY_METHOD = "all runs"

Values = dict[tuple[str | None, ...], set[str | None]]


def task_names(runs: Sequence[StoredRun]) -> list[str]:
    """The environment of each run, with those of its arguments in which runs of the same environment differ."""
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
    """Of each run, the values of the parameters that make up a method, as far as its algorithm and optimizer have them.

    Raises:
        ConfigError: `compare` names what no run has.
    """
    keys = differing(runs, tasks) if compare is None else _compared(compare, runs, tasks)
    had = {(kind_of(run), key) for run in runs for key in run.parameters}
    return [
        ", ".join(
            f"{'algorithm' if key == ALGORITHM else key}={shown(run.parameters.get(key))}"
            for key in keys
            if (kind_of(run), key) in had and _reads(run, key)
        )
        or ONLY_METHOD
        for run in runs
    ]


def differing(runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """The parameters in which runs on one task differ that are of one kind, and the kinds.

    What differs between tasks only belongs to the task, and what differs between algorithms only, to the algorithm.
    """
    apart = _apart(runs, [(task, *kind_of(run)) for run, task in zip(runs, tasks, strict=True)])
    kinds = _apart(runs, [(task,) for task in tasks])
    return [*(key for key in KIND if key in kinds), *sorted(apart - set(KIND))]


def beside_the_kind(runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """The parameters in which runs of different kinds differ although both have them, and runs of one kind do not."""
    found = set()
    between = _apart(runs, [(task,) for task in tasks]) - set(differing(runs, tasks)) - set(KIND)
    kinds = {kind_of(run) for run in runs}
    for key in between:
        readers = {kind_of(run) for run in runs if key in run.parameters and _reads(run, key)}
        if readers == kinds:
            found.add(key)
    return sorted(key for key in found if not key.startswith("algorithm."))


def kind_of(run: StoredRun) -> tuple[str | None, ...]:
    """Its algorithm and its optimizer."""
    return tuple(run.parameters.get(key) for key in KIND)


def shown(value: str | None) -> str:
    """A parameter's value as it is typed on the command line."""
    return "unset" if value is None else spelled(value)


def _apart(runs: Sequence[StoredRun], groups: Sequence[tuple[str | None, ...]]) -> set[str]:
    """The parameters in which runs of one group differ, as far as they are read and of a method."""
    keys = {key for run in runs for key in run.parameters if not _is_one_of(key, NOT_OF_A_METHOD)}
    values: Values = {}
    for run, group in zip(runs, groups, strict=True):
        for key in keys:
            if _reads(run, key):
                values.setdefault((key, *group), set()).add(run.parameters.get(key))
    return {str(key) for (key, *_), found in values.items() if len(found) > 1}


def _reads(run: StoredRun, key: str) -> bool:
    return key not in _listed(run.parameters.get(UNREAD) or "")


@cache
def _listed(text: str) -> frozenset[str]:
    """The names in a list as the store has it."""
    return frozenset(re.findall(r"[\w.]+", text))


def _compared(compare: Sequence[str], runs: Sequence[StoredRun], tasks: Sequence[str]) -> list[str]:
    """The parameters that `compare` names; of a group those in which runs differ."""
    known = {key for run in runs for key in run.parameters}
    apart = differing(runs, tasks)
    keys: list[str] = []
    for name in compare:
        group = [key for key in sorted(known) if key.startswith(f"{name}.")]
        if name not in known and not group:
            raise ConfigError(f"compare={name}: no run has such a parameter{nearest(name, known)}")
        keys += [name] if name in known else [key for key in group if key in apart]
    return list(dict.fromkeys(keys))


def _is_one_of(key: str, names: Iterable[str]) -> bool:
    return any(key.startswith(name) if name.endswith(".") else key == name for name in names)
