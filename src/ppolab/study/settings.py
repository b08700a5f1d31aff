"""Make the sampler and the pruner of a study, and check that they fit what it searches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
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
from optuna.study import Study
from optuna.trial import FrozenTrial

from ppolab.errors import ConfigError, nearest
from ppolab.study.population import Population
from ppolab.study.search_space import Choice, SearchSpace, grid

SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid", "qmc")
PRUNERS = ("none", "median", "hyperband", "wilcoxon")


@dataclass(frozen=True)
class Pruning:
    """Say which trials are stopped early.

    Attributes:
        name: of the pruner. options: arguments of Optuna's class.
        first: step of the first report, and the distance between two. last: step at which a trial ends. Both in
            environment steps, or in seeds where a trial has several.
    """

    name: str
    first: int
    last: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudySettings:
    """Describe a study apart from its search space.

    Attributes:
        directions: `maximize` or `minimize` for each objective. objectives: the metrics a run returns, in that order.
        n_trials: in all, over every process and machine. timeout: seconds after which no trial is started, or None.
        workers: trials at a time here. seeds_per_trial: runs of a trial; their interquartile mean is its value.
        max_failures: the sweep stops once so many trials have failed.
        enqueue: settings that are tried first. fixed: further settings of every run, as `key=value`.
        identity: further settings that a later sweep must share to go on with the study. defaults: their values where
            nothing is set, for those that a study of an earlier version does not know.
        population: the trials are intervals of its members; None: each is trained by itself.
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
    defaults: Mapping[str, Any] = field(default_factory=dict)
    population: Population | None = None


class SamplerByTrial(BaseSampler):
    """Draw from a separate sampler for every trial, seeded with the trial's number.

    So no two processes that share a study draw the same values, none repeats the values of a killed one, and the
    values of a trial depend on its number and on the trials before it only.
    """

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._latest = (-1, make(0))

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._latest[0] != trial.number:
            self._latest = (trial.number, self._make(trial.number))
        return self._latest[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the trial's sampler draws together."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters together, with the trial's sampler."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter alone, with the trial's sampler."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Prepare the trial as its sampler does.

        There is no `after_trial`: the grid's would stop an `optimize` that never ran.
        """
        self._of(trial).before_trial(study, trial)


def make_sampler(settings: StudySettings, space: SearchSpace) -> BaseSampler:
    """Return the sampler of a study.

    Raises:
        ConfigError: there is no such sampler, or it cannot handle the space or its options.
    """
    _check_sampler(settings, space)
    return SamplerByTrial(lambda number: _sampler(settings, space, (settings.seed + 1) * 1_000_003 + number))


def _sampler(settings: StudySettings, space: SearchSpace, seed: int) -> BaseSampler:
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
        if find_spec("cmaes") is None:
            raise ConfigError(
                "sampler=cmaes: the package cmaes is not installed; pip install cmaes, or use sampler=tpe"
            )
        if len(settings.directions) > 1:
            raise ConfigError("sampler=cmaes: knows one objective only; use sampler=tpe")


def check_options(settings: StudySettings, space: SearchSpace) -> None:
    """Try out the sampler and the pruner; raise ConfigError for options that they take, but cannot work with."""
    if settings.sampler_options:
        _try_out(f"sampler={settings.sampler}", settings.sampler_options, make_sampler(settings, space), None, space)
    if settings.pruning.options:
        told = f"pruner={settings.pruning.name}"
        _try_out(told, settings.pruning.options, RandomSampler(), make_pruner(settings.pruning), space)


def _try_out(
    name: str, options: Mapping[str, Any], sampler: BaseSampler, pruner: BasePruner | None, space: SearchSpace
) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(sampler=sampler, pruner=pruner or NopPruner())
            for value in (0.0, 1.0, 2.0):
                trial = study.ask(space.distributions())
                trial.report(value, 1)
                trial.should_prune()
                study.tell(trial, value)
    except Exception as error:
        raise ConfigError(f"{name} with {dict(options)}: {error}") from error


def check_pruning(settings: StudySettings, space: SearchSpace) -> None:
    """Raise ConfigError for a pruner that does not fit the study."""
    name = settings.pruning.name
    if name not in PRUNERS:
        raise ConfigError(f"pruner={name}: no such pruner{nearest(name, PRUNERS)}; there are {', '.join(PRUNERS)}")
    if name == "none" and settings.pruning.options:
        raise ConfigError(
            f"pruner.{next(iter(settings.pruning.options))}: no pruner is chosen; add pruner=median, or leave it out"
        )
    if name != "none" and len(settings.directions) > 1:
        raise ConfigError(f"pruner={name}: several objectives cannot be pruned; use pruner=none")
    if name == "wilcoxon" and settings.seeds_per_trial == 1:
        raise ConfigError(
            f"pruner=wilcoxon: compares seeds; set seeds_per_trial={_seeds_needed(settings.pruning)} or more, or use "
            "pruner=median"
        )
    if not {"eval_interval", "total_steps"} & space.dimensions.keys():
        _check_that_it_can_prune(settings)


def _check_that_it_can_prune(settings: StudySettings) -> None:
    """Raise ConfigError for a pruner that is never asked early enough; the last report of a trial stops nothing."""
    pruning, seeds = settings.pruning, settings.seeds_per_trial
    if seeds == 1 and pruning.name != "none" and pruning.first >= pruning.last:
        raise ConfigError(
            f"pruner={pruning.name}: judges a trial at its evaluations, and there is none before its last step; set "
            f"eval_interval below total_steps={pruning.last}, such as eval_interval={max(1, pruning.last // 10)}"
        )
    needed = _seeds_needed(pruning)
    if 1 < seeds < needed:
        raise ConfigError(
            f"pruner={pruning.name} with seeds_per_trial={seeds}: can stop a trial after {needed - 1} seeds at the "
            f"earliest, and after the last one nothing is left to stop; set seeds_per_trial={needed} or more, or use "
            "pruner=median"
        )


def _seeds_needed(pruning: Pruning) -> int:
    """Return the least number of seeds with which the pruner can stop a trial.

    Wilcoxon: n seeds that are all worse than the best trial's have a p-value of 2^-n, which must be below
    `p_threshold`; so four are needed at Optuna's default of 0.1. Hyperband asks after the second seed first.
    """
    if pruning.name == "hyperband":
        return 3
    if pruning.name != "wilcoxon":
        return 2
    threshold, startup = pruning.options.get("p_threshold", 0.1), pruning.options.get("n_startup_steps", 2)
    if not isinstance(threshold, int | float) or not isinstance(startup, int) or not 0 < threshold <= 1:
        return 2  # Optuna says what is wrong with them
    return max(2, startup, math.floor(-math.log2(threshold)) + 1) + 1


def make_pruner(pruning: Pruning) -> BasePruner:
    """Return Optuna's pruner.

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
