"""Name the metrics that a run may log."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ppolab.config.algorithms import algorithm_names, metrics_of, schedule_metrics_of, scheduled_metrics
from ppolab.config.schema import Config

METRIC_WORDS = {
    "train/return": "mean return of the latest training episodes, at most 100",
    "train/length": "mean length of these episodes, in steps",
    "eval/return": "mean return of the evaluation's episodes, with the most probable actions",
    "eval/return_std": "standard deviation of these returns over the episodes",
    "eval/length": "mean length of these episodes, in steps",
    "loss/policy": "the surrogate's loss, mean over the update's minibatches",
    "loss/value": "the value function's loss, mean over the update's minibatches",
    "policy/kl": "KL divergence of the new policy from the one that collected the rollout",
    "policy/clip_fraction": "share of samples whose probability ratio lies outside the clip range",
    "policy/entropy": "mean entropy of the action distribution",
    "policy/std": "mean standard deviation of continuous actions",
    "policy/epochs": "passes over the batch that were made, the last perhaps in part",
    "value/explained_variance": "share of the returns' variance that the value function explained before the update",
    "optim/lr": "learning rate",
    "optim/grad_norm": "mean norm of the gradient before it is scaled down",
    "time/steps_per_second": "environment steps per second of this iteration",
    "time/rollout": "seconds of this iteration's rollout",
    "time/update": "seconds of this iteration's update",
    "time/total": "seconds of all iterations so far",
}
"""Every metric that a run of any algorithm may log, and what it is. An algorithm's file names further ones."""

INFO_METRICS = "env/"
"""What the names of the metrics begin with that `env.log_info` adds to a run."""

METRICS = tuple(METRIC_WORDS)
"""Their names, in the order of the columns of metrics.csv."""

ENTROPY_COEF = "policy/entropy_coef"
"""Logged where `entropy_schedule` is set."""

EVALUATED, EVALUATED_SAMPLED = "evaluate", "evaluate_sampled"
"""What the names of the metrics begin with that an evaluation of a stored run adds to it, by its actions."""


def objective_names(config: Config) -> tuple[str, ...]:
    """Return the metrics that `objective` names."""
    return tuple(name.strip() for name in config.objective.split(","))


def unmeasured(names: Sequence[str], values: Sequence[float], steps: int) -> str:
    """Return why an objective has no value after a run of `steps` environment steps; empty if all have one."""
    missing = [name for name, value in zip(names, values, strict=True) if math.isnan(value)]
    if not missing:
        return ""
    if missing[0] in ("train/return", "train/length") or missing[0].startswith(INFO_METRICS):
        return f"no episode ended within {steps:,} steps, so there is no {missing[0]}"
    return f"the run never measured {missing[0]}"


def info_metric(name: str) -> str:
    """Return the metric of an entry that `env.log_info` names."""
    return f"{INFO_METRICS}{name}"


def run_metrics(config: Config) -> tuple[str, ...]:
    """Return every metric that a run of `config` may log."""
    of_algorithm = config.algorithm.get("metrics") or metrics_of(config.algorithm["name"])
    scheduled = [*scheduled_metrics(config.algorithm), *([ENTROPY_COEF] if config.entropy_schedule else [])]
    return (*METRICS, *of_algorithm, *scheduled, *map(info_metric, config.env.log_info))


def metric_names() -> tuple[str, ...]:
    """Return every metric that a run of any algorithm may log; reads all of their files."""
    names = algorithm_names()
    of_algorithms = [metric for name in names for metric in (*metrics_of(name), *schedule_metrics_of(name))]
    return tuple(dict.fromkeys((*METRICS, *of_algorithms, ENTROPY_COEF)))


def stored_metric_names() -> tuple[str, ...]:
    """Return every metric that a store may hold of a run: what it logged, and what later evaluations added."""
    added = [
        f"{group}/{name}" for group in (EVALUATED, EVALUATED_SAMPLED) for name in ("return", "return_std", "length")
    ]
    return (*metric_names(), *added)
