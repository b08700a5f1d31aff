"""How a study samples and prunes, checked against what it searches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from ppolab.errors import ConfigError, nearest
from ppolab.study.space import Choice, Interval, SearchSpace, grid

SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid", "qmc")
PRUNERS = ("none", "median", "hyperband", "wilcoxon")


@dataclass(frozen=True)
class Pruning:
    """Which trials are stopped early.

    Attributes:
        name: of the pruner. options: arguments of Optuna's class.
        first, last: the steps (environment steps, or seeds where a trial has several) of the first and the last report.
    """

    name: str
    first: int
    last: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudySettings:
    """What a study is, apart from its search space.

    Attributes:
        directions: `maximize` or `minimize` for each objective. objectives: the metrics a run returns, in that order.
        n_trials: in all, over every process and machine. timeout: seconds after which no trial is started, or None.
        workers: trials at a time here. seeds_per_trial: runs of a trial; their interquartile mean is its value.
        max_failures: the sweep stops once so many trials have failed.
        enqueue: settings that are tried first. fixed: what every run is given besides, as `key=value`.
        identity: what else must be the same for a later sweep to go on with the study.
    """

    name: str
    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    n_trials: int
    timeout: float | None
    workers: int
    seeds_per_trial: int
    max_failures: int
    seed: int
    sampler: str
    pruning: Pruning
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    enqueue: tuple[Mapping[str, Any], ...] = ()
    fixed: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)


def make_sampler(settings: StudySettings, space: SearchSpace, finished: int) -> BaseSampler:
    """The sampler; its seed depends on how many trials are finished, so that a resumed study does not repeat itself.

    Raises:
        ConfigError: there is no such sampler, or it cannot handle the space or its options.
    """
    _check_sampler(settings, space)
    seed = (settings.seed + 1) * 1_000_003 + finished
    options = dict(settings.sampler_options)
    makers: dict[str, Any] = {
        "tpe": lambda: TPESampler(**({"seed": seed, "group": space.condition is not None} | options)),
        "gp": lambda: GPSampler(**({"seed": seed} | options)),
        "cmaes": lambda: CmaEsSampler(**({"seed": seed} | options)),
        "random": lambda: RandomSampler(**({"seed": seed} | options)),
        "qmc": lambda: QMCSampler(**({"seed": settings.seed, "scramble": True} | options)),
        "grid": lambda: GridSampler(grid(space), seed=settings.seed, **options),
    }
    return _made("sampler", settings.sampler, makers[settings.sampler], options)  # type: ignore[no-any-return]


def _check_sampler(settings: StudySettings, space: SearchSpace) -> None:
    name = settings.sampler
    if name not in SAMPLERS:
        raise ConfigError(f"sampler={name}: no such sampler{nearest(name, SAMPLERS)}; there are {', '.join(SAMPLERS)}")
    if name == "grid" and space.condition is not None:
        raise ConfigError("sampler=grid: a space with a condition has no grid; use sampler=tpe or sampler=random")
    if name == "grid" and settings.enqueue:
        raise ConfigError("sampler=grid: tries every combination, and would repeat what enqueue names; leave that out")
    if name == "cmaes":
        choices = [key for key, dimension in space.dimensions.items() if isinstance(dimension, Choice)]
        if choices:
            raise ConfigError(
                f"sampler=cmaes: {choices[0]} is a choice, and CMA-ES varies numbers only; use sampler=tpe, or an "
                "interval"
            )
        if sum(isinstance(dimension, Interval) for dimension in space.dimensions.values()) < 2:
            raise ConfigError("sampler=cmaes: needs two intervals or more; use sampler=tpe or sampler=gp")
        if find_spec("cmaes") is None:
            raise ConfigError(
                "sampler=cmaes: the package cmaes is not installed; pip install cmaes, or use sampler=tpe"
            )
        if len(settings.directions) > 1:
            raise ConfigError("sampler=cmaes: knows one objective only; use sampler=tpe")


def check_pruning(settings: StudySettings) -> None:
    """Raise ConfigError for a pruner that does not fit the study."""
    name = settings.pruning.name
    if name not in PRUNERS:
        raise ConfigError(f"pruner={name}: no such pruner{nearest(name, PRUNERS)}; there are {', '.join(PRUNERS)}")
    if name != "none" and len(settings.directions) > 1:
        raise ConfigError(f"pruner={name}: several objectives cannot be pruned; use pruner=none")
    if name == "wilcoxon" and settings.seeds_per_trial < 2:
        raise ConfigError("pruner=wilcoxon: compares seeds; set seeds_per_trial=2 or more, or use pruner=median")


def make_pruner(pruning: Pruning) -> BasePruner:
    """Optuna's pruner.

    Raises:
        ConfigError: it does not take these options.
    """
    options = dict(pruning.options)
    resources = {"min_resource": pruning.first, "max_resource": pruning.last}
    makers: dict[str, Any] = {
        "none": NopPruner,
        "median": lambda: MedianPruner(**options),
        "hyperband": lambda: HyperbandPruner(**(resources | options)),
        "wilcoxon": lambda: WilcoxonPruner(**options),
    }
    return _made("pruner", pruning.name, makers[pruning.name], options)  # type: ignore[no-any-return]


def _made(kind: str, name: str, maker: Any, options: Mapping[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return maker()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind}={name} with {dict(options)}: {error}") from error
