"""Run what `-m` asks for: a grid, or a study."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from hydra_plugins.hydra_ppolab._compose import for_single_runs, without_hydra
from hydra_plugins.hydra_ppolab._grid import run_grid
from hydra_plugins.hydra_ppolab._override_grammar import (
    dimension,
    is_listed,
    listed,
    range_in_words,
    split,
)
from hydra_plugins.hydra_ppolab._process_jobs import make_pool
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config.algorithms import check_algorithm, refuse_unread
from ppolab.config.checks import range_of
from ppolab.config.loading import from_hydra
from ppolab.config.members import note_on_members
from ppolab.config.metrics import objective_names
from ppolab.config.schema import Config, effect_of, flattened
from ppolab.config.sweep_schema import DEFAULT_TRIALS, ONLY_STUDIES, SWEEP_GROUPS
from ppolab.errors import ConfigError, InterruptedRun, SweepError
from ppolab.records.run_folder import OUTPUTS
from ppolab.records.tracking import redact, resolve_tracking_uri
from ppolab.records.tracking.tags import COMMAND, typed_command
from ppolab.records.wording import same_command
from ppolab.runtime.cores import usable_cores
from ppolab.runtime.signals import stop_requests

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._context import Multirun
    from ppolab.study.search_space import Dimension, SearchSpace
    from ppolab.study.settings import StudySettings
    from ppolab.study.store import Store

STUDIES = OUTPUTS / "studies"
NAME_OF_RUN = "logger.run_name"


def sweep(multirun: Multirun, arguments: Sequence[str]) -> Any:
    """Run what the command line and `hydra.sweeper.*` ask for; return a study's best values, or a grid's values."""
    settings = multirun.settings
    params = [f"{key}={value}" for key, value in (settings["params"] or {}).items()]
    parser = OverridesParser.create(config_loader=multirun.context.config_loader)
    fixed, searched = split(parser.parse_overrides([*params, *arguments]))
    for group in SWEEP_GROUPS:
        if group in searched:
            raise ConfigError(f"{group}: a sweep has one; start a sweep for each, with a study_name of its own")
    if "algorithm" not in searched:
        typed = {key: str(override.input_line).partition("=")[2] for key, override in searched.items()}
        refuse_unread(multirun.config.algorithm, {**fixed, **typed})
    for line in filter(None, map(range_in_words, searched.values())):
        print(line, flush=True)
    with _command_for_jobs():
        if _is_study(settings, searched):
            return _study(multirun, fixed, {key: dimension(override) for key, override in searched.items()})
        return run_grid(multirun, fixed, {key: listed(override) for key, override in searched.items()})


def _is_study(settings: dict[str, Any], searched: dict[str, Override]) -> bool:
    """Return whether something is asked for that only a study can do; a range alone is a list of values."""
    asked = any(settings[name] for name in ONLY_STUDIES) or settings["seeds_per_trial"] != 1
    return asked or not all(map(is_listed, searched.values()))


@contextmanager
def _command_for_jobs() -> Iterator[None]:
    """Let the jobs record the sweep's command line, and not that of the process in which a launcher runs them."""
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = typed_command()
    try:
        yield
    finally:
        if before is None:
            del os.environ[COMMAND]
        else:
            os.environ[COMMAND] = before


# --- studies ---------------------------------------------------------------------------------------------------------


def _study(multirun: Multirun, fixed: dict[str, str], searched: dict[str, Dimension]) -> Any:
    from ppolab.study.search_space import SearchSpace

    if name := fixed.get(NAME_OF_RUN):
        raise ConfigError(f"{NAME_OF_RUN}={name}: names a run alone or the runs of a grid; name a study by study_name=")
    base = from_hydra(without_hydra(multirun.config))
    fixed = for_single_runs(multirun, fixed)
    space = SearchSpace(_fitting(multirun, base, searched), multirun.settings["condition"])
    settings, storage = study_settings(multirun, base, fixed, space), multirun.settings["storage"]
    if isinstance(multirun.launcher, ProcessLauncher):
        make_pool(multirun.config, relayed=True)  # its fork server starts up while the study is opened
    from hydra_plugins.hydra_ppolab._process_runner import make_runner
    from ppolab.study.run_study import StudyPlace, check_study, run_study  # Optuna, a second

    check_study(settings, space)
    own_processes = isinstance(multirun.launcher, ProcessLauncher)
    note = note_on_members(base, settings.seeds_per_trial, settings.pruning.name) if own_processes else None
    if note is not None:
        print(note, flush=True)
    runner = make_runner(multirun, settings, storage, STUDIES)
    _check_values(multirun, fixed, space)
    with stop_requests() as stopping:
        place = StudyPlace(storage, STUDIES, _store(base, storage))
        shown, drawing = base.progress != "off", min(2, usable_cores())
        result = run_study(settings, space, place, runner, stopping, progress=shown, drawing_processes=drawing)
        if stopping():
            raise InterruptedRun(
                f"stopped; the same command goes on with study {settings.name}: {same_command('train')}"
            )
    print(result.summary)
    if result.all_failed:
        raise SweepError(f"no trial of study {settings.name} came to its end; why is in {STUDIES / settings.name}")
    return result.best_values


def _check_values(multirun: Multirun, fixed: dict[str, str], space: SearchSpace) -> None:
    """Compose every choice and every bound once, in as few configurations as the longest list has values.

    Raises:
        ConfigError, or Hydra's own: a key that is no setting, or a value that it cannot have.
    """
    from ppolab.study.search_space import Choice, distribution, overrides

    columns: dict[str, list[Any]] = {}
    for key, searched in space.dimensions.items():
        if isinstance(searched, Choice):
            columns[key] = list(searched.values)
        else:
            ends: Any = distribution(searched)  # as many bits as a trial gets, and whole numbers as such
            columns[key] = [ends.low, ends.high]
    base = [f"{key}={value}" for key, value in fixed.items()]
    for row in range(max(map(len, columns.values()), default=0)):
        values = {key: column[row % len(column)] for key, column in columns.items()}
        job = multirun.composer.composed([*base, *overrides(values)], row)
        refuse_unread(job.algorithm, {**fixed, **values})
        check_algorithm(job.algorithm, partial(OmegaConf.select, job))
        for key in values:
            value, rule = OmegaConf.select(job, key), range_of(key, job.algorithm.name)
            if rule and isinstance(value, int | float) and not rule.holds(value):
                raise ConfigError(f"{key}={value}: {rule.words}")


def _fitting(multirun: Multirun, base: Config, searched: dict[str, Dimension]) -> dict[str, Dimension]:
    """Return the dimensions, those of whole numbers as such; raise ConfigError for bounds that no run could take."""
    from ppolab.study.search_space import Interval

    values, groups = flattened(base), multirun.config.hydra.runtime.choices
    fitting: dict[str, Dimension] = {}
    for key, item in searched.items():
        if isinstance(item, Interval):
            value, given = values.get(key), f"{key}=interval({item.low:g},{item.high:g})"
            if key in groups or isinstance(value, bool | str | list):
                raise ConfigError(f"{given}: {key} has options, not an interval; list them, such as {key}=A,B")
            rule = range_of(key, base.algorithm["name"])
            for bound in (item.low, item.high):
                if rule and not rule.holds(bound):
                    raise ConfigError(f"{given}: {bound:g} {rule.words}")
            if isinstance(value, int) and not item.integer:
                if not (item.low.is_integer() and item.high.is_integer()):
                    raise ConfigError(f"{given}: {key} is a whole number, so the bounds must be, too")
                item = replace(item, integer=True)
        fitting[key] = item
    return fitting


def study_settings(multirun: Multirun, base: Config, fixed: dict[str, str], space: SearchSpace) -> StudySettings:
    """Return the study's settings, from the sweeper's and from the configuration that all trials share."""
    from ppolab.study.population_settings import population_settings
    from ppolab.study.settings import Pruning, StudySettings

    settings = multirun.settings
    directions = settings["direction"]
    sampler, pruner = dict(settings["sampler"] or {}), dict(settings["pruner"] or {})
    seeds = settings["seeds_per_trial"]
    first, last = (1, seeds) if seeds > 1 else (base.steps_between_evaluations or base.total_steps, base.total_steps)
    population = population_settings(settings, _typed(multirun), base, space)
    name = _study_name(multirun, space, fixed, base) + ("-pbt" if population else "")
    return StudySettings(
        name=settings["study_name"] or name,
        objectives=objective_names(base),
        directions=tuple(directions.split(",")) if isinstance(directions, str) else tuple(directions),
        n_trials=population.size * population.generations if population else _n_trials(settings, space),
        timeout=settings["timeout"],
        workers=settings["workers"] or usable_cores(),
        seeds_per_trial=seeds,
        max_failures=settings["max_failures"],
        seed=base.seed,
        sampler="random" if population else sampler.pop("name", "tpe"),
        pruning=Pruning(pruner.pop("name", "none"), first, last, pruner),
        sampler_options={} if population else sampler,
        enqueue=tuple(dict(item) for item in settings["enqueue"]),
        fixed=tuple(f"{key}={value}" for key, value in fixed.items()),
        identity={
            key: value
            for key, value in flattened(base).items()
            if effect_of(key).of_study and key not in space.dimensions
        },
        defaults=flattened(from_hydra(without_hydra(multirun.composer.composed([], 0)))),
        population=population,
    )


def _typed(multirun: Multirun) -> set[str]:
    """Return the sweeper's settings that the command line names, be it by a group's option."""
    overrides = multirun.config.hydra.overrides
    keys = {str(text).lstrip("+").partition("=")[0] for text in [*overrides.hydra, *overrides.task]}
    return {key.removeprefix("hydra.sweeper.").partition(".")[0] for key in keys}


def _n_trials(settings: dict[str, Any], space: SearchSpace) -> int:
    """Return the number of trials as given, else the default; for a grid never more than it has points."""
    from ppolab.study.search_space import grid_size

    given: int | None = settings["n_trials"]
    if (settings["sampler"] or {}).get("name") == "grid" and space.condition is None:
        return grid_size(space) if given is None else min(given, grid_size(space))
    return DEFAULT_TRIALS if given is None else given


def _store(base: Config, storage: str | None) -> Store | None:
    from ppolab.study.store import Store

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


def _study_name(multirun: Multirun, space: SearchSpace, fixed: dict[str, str], base: Config) -> str:
    """Return the names of the search space and the environment; a space typed on the command line is named by a digest.

    Where environments are searched, `tasks` stands in their place.
    """
    choices = multirun.config.hydra.runtime.choices
    environment = _environment(multirun, base)
    if {"env", "env.id"} & set(space.dimensions):
        environment = "tasks"
    if choices.get("search"):
        return f"{choices['search']}-{environment}".replace("/", "-")
    digest = hashlib.sha256(json.dumps([space.described(), sorted(fixed.items())]).encode()).hexdigest()[:8]
    return f"{environment}-{digest}"


def _environment(multirun: Multirun, base: Config) -> str:
    """Return the option of `env` that was chosen, or the id where another one than the option's is set."""
    option = multirun.config.hydra.runtime.choices.get("env")
    if option and multirun.composer.composed([f"env={option}"], 0).env.id == base.env.id:
        return str(option)
    return re.sub(r"[^\w.-]+", "-", base.env.id)
