"""What `-m` does: a grid through the launcher, or a study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.hydra_ppolab._launch import composed
from hydra_plugins.hydra_ppolab._launchers import prepare
from hydra_plugins.hydra_ppolab._space import split, written
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config import (
    SWEEP_GROUPS,
    Config,
    flattened,
    from_hydra,
    objective_names,
    usable_cores,
)
from ppolab.errors import ConfigError, InterruptedRun, SweepError
from ppolab.family import check_algorithm, refuse_unread
from ppolab.processes import stop_requests
from ppolab.rules import RULES
from ppolab.runs import OUTPUTS
from ppolab.tracking import redact, resolve_tracking_uri

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab.sweeper import Multirun
    from ppolab.study.record import Store
    from ppolab.study.settings import StudySettings
    from ppolab.study.space import Dimension, SearchSpace

STUDIES = OUTPUTS / "studies"
DEFAULT_TRIALS = 20
ONLY_STUDIES = ("condition", "sampler", "pruner", "n_trials", "timeout", "enqueue", "study_name", "storage")
"""Settings of the sweeper that make a sweep over listed values a study instead of a grid."""
NOT_OF_THE_STUDY = (
    "logger.", "trainer.accelerator", "trainer.threads", "env.num_threads", "compile", "resume", "checkpoint_interval",
    "keep_checkpoints", "objective", "seed",
)  # fmt: skip
"""Settings that may differ between two sweeps of one study."""


def sweep(multirun: Multirun, arguments: Sequence[str]) -> Any:
    """Run what the command line and `hydra.sweeper.*` ask for; the best values of a study, the values of a grid."""
    settings = multirun.settings
    params = [f"{key}={value}" for key, value in (settings["params"] or {}).items()]
    parser = OverridesParser.create(config_loader=multirun.context.config_loader)
    fixed, searched = split(parser.parse_overrides([*params, *arguments]))
    for group in SWEEP_GROUPS:
        if group in searched:
            raise ConfigError(f"{group}: a sweep has one; start a sweep for each, with a study_name of its own")
    if "algorithm" not in searched:
        ranges = {key: _in_words(dimension) for key, dimension in searched.items()}
        refuse_unread(multirun.config.algorithm, {**fixed, **ranges})
    if not _is_study(settings, searched):
        return _grid(multirun, fixed, searched)
    return _study(multirun, fixed, searched)


def _is_study(settings: dict[str, Any], searched: dict[str, Dimension]) -> bool:
    """A grid unless something only a study can do is asked for."""
    from ppolab.study.space import Choice

    asked = any(settings[name] for name in ONLY_STUDIES) or settings["seeds_per_trial"] != 1
    return asked or any(not isinstance(dimension, Choice) for dimension in searched.values())


def _in_words(dimension: Dimension) -> str:
    from ppolab.study.space import Choice

    if isinstance(dimension, Choice):
        return ",".join(dimension.values)
    return f"interval({dimension.low:g},{dimension.high:g})"


# --- grids -----------------------------------------------------------------------------------------------------------


def _grid(multirun: Multirun, fixed: dict[str, str], searched: dict[str, Dimension]) -> list[Any]:
    """Every combination, in the order of a written-out loop.

    Raises:
        SweepError: jobs failed; the others have run to their end.
    """
    from ppolab.study.space import Choice

    jobs = [[f"{key}={value}" for key, value in fixed.items()]]
    for key, dimension in searched.items():
        assert isinstance(dimension, Choice)
        jobs = [[*job, f"{key}={value}"] for job in jobs for value in dimension.values]
    for number, job in enumerate(jobs):  # a mistake in one shows before the first has run
        config = from_hydra(_without_hydra(composed(multirun.context, multirun.config, job, number)))
        refuse_unread(config.algorithm, dict(setting.split("=", 1) for setting in job))
    if not isinstance(multirun.launcher, ProcessLauncher):
        prepare(multirun.launcher)
    returns = multirun.launcher.launch(jobs, initial_job_idx=0)
    failed = [number for number, result in enumerate(returns) if result.status == JobStatus.FAILED]
    if failed:
        raise SweepError(
            f"{len(failed)} of {len(jobs)} jobs failed, the first of them {' '.join(jobs[failed[0]])}; what it said is "
            f"in {returns[failed[0]].working_dir}"
        )
    return [result.return_value for result in returns]


def _without_hydra(job: DictConfig) -> DictConfig:
    copy = job.copy()
    OmegaConf.set_struct(copy, False)
    del copy["hydra"]
    return copy


# --- studies ---------------------------------------------------------------------------------------------------------


def _study(multirun: Multirun, fixed: dict[str, str], searched: dict[str, Dimension]) -> Any:
    from ppolab.study.space import SearchSpace

    base = from_hydra(_without_hydra(multirun.config))
    fixed = _for_single_runs(multirun, base, fixed)
    space = SearchSpace(_fitting(multirun, base, searched), multirun.settings["condition"])
    settings, storage = study_settings(multirun, base, fixed, space), multirun.settings["storage"]
    from hydra_plugins.hydra_ppolab._runners import make_runner
    from ppolab.study.run import StudyPlace, check_study, run_study  # Optuna, a second

    check_study(settings, space)
    runner = make_runner(multirun, settings, storage, STUDIES)  # whose fork server starts up meanwhile
    _check_values(multirun, fixed, space)
    with stop_requests() as stopping:
        result = run_study(settings, space, StudyPlace(storage, STUDIES, _store(base, storage)), runner, stopping)
        if stopping():
            raise InterruptedRun(f"stopped; the same command goes on with study {settings.name}")
    print(result.summary)
    if result.all_failed:
        raise SweepError(f"no trial of study {settings.name} came to its end; why is in {STUDIES / settings.name}")
    return result.best_values


def _check_values(multirun: Multirun, fixed: dict[str, str], space: SearchSpace) -> None:
    """Every choice and every bound once, in as few configurations as there are values of the key with the most.

    Raises:
        ConfigError, or Hydra's own: a key that is no setting, or a value that it cannot have.
    """
    from ppolab.study.space import Choice, distribution, overrides

    columns: dict[str, list[Any]] = {}
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Choice):
            columns[key] = list(dimension.values)
        else:
            ends: Any = distribution(dimension)  # as many bits as a trial gets, and whole numbers as such
            columns[key] = [ends.low, ends.high]
    base = [f"{key}={value}" for key, value in fixed.items()]
    for row in range(max(map(len, columns.values()), default=0)):
        values = {key: column[row % len(column)] for key, column in columns.items()}
        job = composed(multirun.context, multirun.config, [*base, *overrides(values)], row)
        refuse_unread(job.algorithm, {**fixed, **values})
        check_algorithm(job.algorithm, partial(OmegaConf.select, job))
        for key in values:
            value = OmegaConf.select(job, key) if key in RULES else None
            if isinstance(value, int | float) and not RULES[key].holds(value):
                raise ConfigError(f"{key}={value}: {RULES[key].words}")


def _for_single_runs(multirun: Multirun, base: Config, fixed: dict[str, str]) -> dict[str, str]:
    """`fixed`, but in place of groups that only a sweep has what they set, so that a trial can be trained alone."""
    kept = {key: value for key, value in fixed.items() if key not in SWEEP_GROUPS}
    alone = composed(multirun.context, multirun.config, [f"{key}={value}" for key, value in kept.items()], 0)
    without = flattened(from_hydra(_without_hydra(alone)))
    set_there = {key: written(value) for key, value in flattened(base).items() if without.get(key) != value}
    return set_there | kept


def _fitting(multirun: Multirun, base: Config, searched: dict[str, Dimension]) -> dict[str, Dimension]:
    """The dimensions, those of whole numbers as such; raises ConfigError for bounds that no run could take."""
    from ppolab.study.space import Interval

    values, groups = flattened(base), multirun.config.hydra.runtime.choices
    fitting: dict[str, Dimension] = {}
    for key, dimension in searched.items():
        if isinstance(dimension, Interval):
            value, given = values.get(key), f"{key}=interval({dimension.low:g},{dimension.high:g})"
            if key in groups or isinstance(value, bool | str | list):
                raise ConfigError(f"{given}: {key} has options, not an interval; list them, such as {key}=A,B")
            for bound in (dimension.low, dimension.high):
                if key in RULES and not RULES[key].holds(bound):
                    raise ConfigError(f"{given}: {bound:g} {RULES[key].words}")
            if isinstance(value, int) and not dimension.integer:
                if not (dimension.low.is_integer() and dimension.high.is_integer()):
                    raise ConfigError(f"{given}: {key} is a whole number, so the bounds must be, too")
                dimension = replace(dimension, integer=True)
        fitting[key] = dimension
    return fitting


def study_settings(multirun: Multirun, base: Config, fixed: dict[str, str], space: SearchSpace) -> StudySettings:
    """From the sweeper's settings and the configuration that all trials share."""
    from ppolab.study.settings import Pruning, StudySettings

    settings = multirun.settings
    directions = settings["direction"]
    sampler, pruner = dict(settings["sampler"] or {}), dict(settings["pruner"] or {})
    seeds = settings["seeds_per_trial"]
    first, last = (1, seeds) if seeds > 1 else (base.eval_interval or base.total_steps, base.total_steps)
    return StudySettings(
        name=settings["study_name"] or _study_name(multirun, space, fixed),
        objectives=objective_names(base),
        directions=tuple(directions.split(",")) if isinstance(directions, str) else tuple(directions),
        n_trials=_n_trials(settings, space),
        timeout=settings["timeout"],
        workers=settings["workers"] or usable_cores(),
        seeds_per_trial=seeds,
        max_failures=settings["max_failures"],
        seed=base.seed,
        sampler=sampler.pop("name", "tpe"),
        pruning=Pruning(pruner.pop("name", "none"), first, last, pruner),
        sampler_options=sampler,
        enqueue=tuple(dict(item) for item in settings["enqueue"]),
        fixed=tuple(f"{key}={value}" for key, value in fixed.items()),
        identity={
            key: value
            for key, value in flattened(base).items()
            if not key.startswith(NOT_OF_THE_STUDY) and key not in space.dimensions
        },
    )


def _n_trials(settings: dict[str, Any], space: SearchSpace) -> int:
    """As given, else the default; of a grid never more than it has points."""
    from ppolab.study.space import grid_size

    given: int | None = settings["n_trials"]
    if (settings["sampler"] or {}).get("name") == "grid" and space.condition is None:
        return grid_size(space) if given is None else min(given, grid_size(space))
    return DEFAULT_TRIALS if given is None else given


def _store(base: Config, storage: str | None) -> Store | None:
    from ppolab.study.record import Store

    logger = base.logger
    if logger.kind == "none":
        return None
    uri = resolve_tracking_uri(logger.tracking_uri, OUTPUTS)
    if storage is not None and uri == storage:
        raise ConfigError(
            f"storage={redact(storage)}: is also logger.tracking_uri, but Optuna and MLflow each number their tables' "
            "versions in a table of the same name; give each a database of its own"
        )
    return Store(uri, logger.experiment)


def _study_name(multirun: Multirun, space: SearchSpace, fixed: dict[str, str]) -> str:
    """The search space's name and the environment's; for a space from the command line, what tells it from others.

    Where environments are searched, `tasks` is in their place.
    """
    choices = multirun.config.hydra.runtime.choices
    environment = "tasks" if "env" in space.dimensions else choices.get("env") or "env"
    if choices.get("search"):
        return f"{choices['search']}-{environment}".replace("/", "-")
    digest = hashlib.sha256(json.dumps([space.described(), sorted(fixed.items())]).encode()).hexdigest()[:8]
    return f"{environment}-{digest}"
