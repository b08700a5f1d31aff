"""Read the settings of population based training from those of a sweep, and refuse what does not go with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from ppolab.config.checks import check_values
from ppolab.config.metrics import objective_names
from ppolab.config.schema import Config, may_be_perturbed, perturbed_keys
from ppolab.config.sweep_schema import DEFAULT_POPULATION, SchedulerSettings
from ppolab.errors import ConfigError, nearest
from ppolab.study.population import Population
from ppolab.study.search_space import SearchSpace

SHARE_OF_STEPS = 20
"""A run is trained in so many intervals, where nobody says how long they are."""


def population_settings(
    settings: Mapping[str, Any], typed: Collection[str], base: Config, space: SearchSpace
) -> Population | None:
    """Return the population that a sweep asks for; None for a study whose trials train to their end by themselves.

    Args:
        settings: `hydra.sweeper.*` by name. typed: those that the command line names, as against a file of sweeps/.
        base: what all members share.

    Raises:
        ConfigError: a setting is wrong, or has no meaning beside population based training.
    """
    scheduler = _scheduler(settings["scheduler"] or {})
    size = settings["population"]
    if scheduler.name != "pbt":
        if size is not None:
            raise ConfigError(f"population={size}: is of population based training; add scheduler=pbt, or leave it out")
        return None
    size = DEFAULT_POPULATION if size is None else size
    if size < 2:
        raise ConfigError(f"population={size}: must be 2 or more, since members are compared with each other")
    _refuse_others(settings, typed, base)
    _check_space(space)
    if len(settings["enqueue"]) > size:
        raise ConfigError(
            f"enqueue: names {len(settings['enqueue'])} settings, and population={size} members begin; leave some out"
        )
    return Population(
        size, _interval(scheduler, base), base.total_steps, scheduler.quantile, scheduler.resample, base.seed
    )


def _scheduler(given: Mapping[str, Any]) -> SchedulerSettings:
    known = [field.name for field in fields(SchedulerSettings)]
    for key in given:
        if key not in known:
            raise ConfigError(f"scheduler.{key}: there is no such setting{nearest(key, known)}; use {', '.join(known)}")
    found = SchedulerSettings(**given)
    try:
        check_values(found)
    except ConfigError as error:
        raise ConfigError(f"scheduler.{error}") from None
    others = [key for key in given if key != "name"]
    if found.name != "pbt" and others:
        raise ConfigError(f"scheduler.{others[0]}: no scheduler is chosen; add scheduler=pbt, or leave it out")
    return found


def _interval(scheduler: SchedulerSettings, base: Config) -> int:
    given, batch, total = scheduler.interval, base.batch_size, base.total_steps
    if given is None:
        given = max(batch, total // SHARE_OF_STEPS)
        if given >= total:
            raise ConfigError(
                f"total_steps={total}: scheduler=pbt compares members on the way, and a batch has {batch} steps; raise "
                "it, or lower num_envs or rollout_steps"
            )
    if given >= total:
        raise ConfigError(
            f"scheduler.interval={given}: must be less than total_steps={total}, so that members are compared on the "
            f"way; set it to {max(batch, total // SHARE_OF_STEPS)}, or leave it out"
        )
    if given < batch:
        raise ConfigError(
            f"scheduler.interval={given}: must be at least one batch, num_envs * rollout_steps = {batch}; raise it, or "
            "lower one of these"
        )
    return given


def _refuse_others(settings: Mapping[str, Any], typed: Collection[str], base: Config) -> None:
    pruner = (settings["pruner"] or {}).get("name", "none")
    if pruner != "none":
        raise ConfigError(
            f"pruner={pruner}: scheduler=pbt ends no member early, it lets the worst go on from better ones; set "
            "pruner=none, or leave out scheduler=pbt"
        )
    for key, reason in (
        ("sampler", "scheduler=pbt draws the first settings itself, and changes them by its own rules"),
        ("n_trials", "scheduler=pbt has one trial per member and interval"),
    ):
        if key in typed:
            value = settings[key]["name"] if key == "sampler" else settings[key]
            fix = "; set population and scheduler.interval" if key == "n_trials" else ""
            raise ConfigError(f"{key}={value}: {reason}; leave it out{fix}")
    if settings["seeds_per_trial"] != 1:
        raise ConfigError(
            f"seeds_per_trial={settings['seeds_per_trial']}: each member of scheduler=pbt has one seed, its number "
            "added to seed; leave it out, and repeat the whole sweep with another seed and study_name"
        )
    if settings["condition"] is not None:
        raise ConfigError(
            f"hydra.sweeper.condition={settings['condition']}: scheduler=pbt could not change what it returns; leave "
            "it out"
        )
    names = objective_names(base)
    if len(names) > 1:
        raise ConfigError(
            f"objective={base.objective}: scheduler=pbt ranks members by one metric; name one, such as "
            f"objective={names[0]}"
        )
    if base.logger.register is not None:
        raise ConfigError(
            f"logger.register={base.logger.register}: every interval of every member would be registered; leave it "
            "out, and register the best run with export.py"
        )


def _check_space(space: SearchSpace) -> None:
    for key in space.dimensions:
        if not may_be_perturbed(key.lstrip("+")):
            raise ConfigError(
                f"{key}: cannot be searched with scheduler=pbt, since a run cannot go on from a checkpoint with "
                f"another value; give it one, as {key}=VALUE, or vary some of {', '.join(perturbed_keys())}"
            )
