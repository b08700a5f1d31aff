"""Define the settings of sweeps: the dataclasses that Hydra fills from sweeps/ and from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppolab.config.files import option_groups
from ppolab.config.rules import CLOSED_UNIT, POSITIVE, Range
from ppolab.config.setting import STUDY, setting, settings_of

DEFAULT_TRIALS = 20
"""Trials of a study that is not told how many."""

DEFAULT_POPULATION = 8
"""Members of a population that is not told how many."""

SWEEP_GROUPS = option_groups("sweeps")
"""Groups that only a sweep heeds."""


@dataclass
class SearchSettings:
    """What the files in sweeps/ set below hydra.sweeper."""

    params: dict[str, Any] = setting(
        "what is varied, by the name of the setting: what would stand after `key=` on the command line", {}
    )
    condition: str | None = setting(
        "module.function of (trial, values so far) that returns further settings", None, effect=STUDY
    )
    sampler: dict[str, Any] = setting("name, and arguments of Optuna's class", {}, effect=STUDY)
    pruner: dict[str, Any] = setting("name, and arguments of Optuna's class", {}, effect=STUDY)
    scheduler: dict[str, Any] = setting("name, and its settings: those of SchedulerSettings", {}, effect=STUDY)


@dataclass
class SchedulerSettings:
    """What a sweep takes below `scheduler`, such as `scheduler.interval=20000`."""

    name: str = setting(
        "pbt: population based training; none: each trial trains to its end by itself",
        "none",
        choices=("none", "pbt"),
    )
    interval: int | None = setting(
        "environment steps that each member trains between two comparisons; null: a twentieth of total_steps, and at "
        "least one batch",
        None,
        rule=POSITIVE,
    )
    quantile: float = setting(
        "share of the population that goes on as copies of others, and share that these are drawn from",
        0.25,
        rule=Range("> 0, <= 0.5"),
    )
    resample: float = setting(
        "probability that a setting of a copy is drawn anew from the search space; otherwise it is moved a little",
        0.25,
        rule=CLOSED_UNIT,
    )


@dataclass
class SweepSettings:
    """What the command line takes for a sweep by these names alone: `n_trials=40` is hydra.sweeper.n_trials=40."""

    n_trials: int | None = setting(
        f"trials in all, over every process and machine; null: {DEFAULT_TRIALS}", None, effect=STUDY
    )
    timeout: float | None = setting("seconds after which no trial is started", None, effect=STUDY)
    workers: int = setting("trials at a time here; 0: one per processor core", 0)
    seeds_per_trial: int = setting("runs of a trial, whose interquartile mean is its value", 1)
    direction: Any = setting("maximize or minimize; a list of them for several objectives", "maximize")
    enqueue: list[dict[str, Any]] = setting("known-good settings to try first, as '[{clip: 0.2}]'", [], effect=STUDY)
    study_name: str | None = setting("null: made of the search space and the environment", None, effect=STUDY)
    storage: str | None = setting(
        "a database for several machines; null: a file in outputs/studies", None, effect=STUDY
    )
    max_failures: int = setting("the sweep stops once so many trials have failed", 10)
    population: int | None = setting(
        f"scheduler=pbt: members, which train side by side; null: {DEFAULT_POPULATION}", None, effect=STUDY
    )


SWEEP_SETTINGS = tuple(settings_of(SweepSettings))
"""Settings of hydra.sweeper that the command line takes by these names alone."""

ONLY_STUDIES = tuple(
    key
    for schema in (SearchSettings, SweepSettings)
    for key, described in settings_of(schema).items()
    if described.effect.makes_study
)
"""Settings of the sweeper that make a sweep over listed values a study instead of a grid."""
