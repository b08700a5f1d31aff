"""Choose the settings that are recorded with a run: those that tell what was trained. config.yaml holds all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ppolab.config.algorithms import about, defaults_of, reads
from ppolab.config.files import option_defaults, options_of
from ppolab.config.schema import Config, EnvConfig, ModelConfig, flattened

FIRST = ("env.id", "algorithm.name", "seed", "total_steps")
"""What everybody asks first of a run."""
BOOKKEEPING = (
    "logger", "progress", "resume", "rerun", "objective", "checkpoint_interval", "keep_checkpoints", "env.timeout",
    "algorithm.ignores", "algorithm.needs", "algorithm.optional", "algorithm.metrics", "algorithm.schedules",
)  # fmt: skip
"""Settings and groups that make no other experiment, and facts that follow from the algorithm's name."""
WHEN_SET = {
    "callbacks": "[]", "init_from": "None", "env.kwargs": "{}", "env.wrappers": "[]", "env.frame_stack": "None",
    "env.log_info": "[]", "model.network": "None", "model.kwargs": "{}", "model.actor_sizes": "None",
    "model.critic_sizes": "None", "model.encoder": "None", "exploration.final_log_std": "None",
}  # fmt: skip
"""Settings that most runs leave empty, as they do those of SCHEDULE, and how a store writes that. They are left out
without a value."""
USUAL = {"env.action_mask": "auto", "exploration.noise_color": "0.0"}
"""Settings that tell something only where they have another value than this one, as a store writes it."""
SCHEDULE = "_schedule"
"""How names of settings end that may replace a switch, of this program or of an algorithm."""
MEMORY = ("model.memory", "model.memory_size", "model.memory_layers", "sequence_length")
"""Settings of a policy with memory, which are left out without it."""
EMPTY: tuple[Any, ...] = (None, "None", [], "[]", {}, "{}")
"""No value, and how a store writes it."""


def recorded_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a run that a tracking store shows, in the order in which people look for them.

    What it is comes first, then what differs from the shipped defaults, then all else.
    """
    kept = telling(flattened(config), config.algorithm.get("ignores") or ())
    order = dict.fromkeys([*(key for key in FIRST if key in kept), *changed_settings(config), *kept])
    return {key: kept[key] for key in order}


def telling(values: Mapping[str, Any], ignored: Iterable[str]) -> dict[str, Any]:
    """Return the settings that tell what was trained.

    Args:
        values: by dotted name, as values or as a store's texts.
        ignored: settings that the run's algorithm does not read.
    """
    memory = MEMORY if values.get("model.memory", "none") == "none" else ()
    unread = {"ignores": [*BOOKKEEPING, *memory, *ignored]}
    return {
        key: value
        for key, value in values.items()
        if reads(unread, key)
        and not (value in EMPTY and (key in WHEN_SET or key.endswith(SCHEDULE)))
        and not (key in USUAL and str(value) == USUAL[key])
    }


def value_left_out(key: str, algorithm: str) -> str | None:
    """Return the value, as a store writes it, of a setting that a run's record lacks because `telling` left it out.

    None for what is never left out, what is nested in a setting, and what the algorithm does not read.
    """
    if not reads(about(algorithm), key):
        return None
    if key in USUAL or key == MEMORY[0]:
        return USUAL.get(key, "none")
    if key in WHEN_SET:
        return WHEN_SET[key]
    if key.endswith(SCHEDULE):
        own = key.removeprefix("algorithm.")
        return "None" if own == key or own in defaults_of(algorithm) else None
    return None


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the recorded settings that have other values than the shipped files give, but not those in FIRST."""
    defaults = {key: _plain(value) for key, value in _defaults(config).items()}
    kept = telling(flattened(config), config.algorithm.get("ignores") or ())
    return {
        key: value
        for key, value in kept.items()
        if key not in FIRST and (key not in defaults or defaults[key] != _plain(value))
    }


def _defaults(config: Config) -> dict[str, Any]:
    """Return the defaults by dotted name: of the whole, then of the options that the configuration is made of."""
    main = {key: value for key, value in option_defaults(".", "config").items() if key not in ("defaults", "hydra")}
    options = {"model": option_defaults("model", "mlp"), "trainer": option_defaults("trainer", "cpu")}
    algorithm = str(config.algorithm.get("name"))
    main["eval_interval"] = replace(config, eval_interval=None).steps_between_evaluations
    return (
        flattened({"env": EnvConfig(), "model": ModelConfig(), **main})
        | flattened(options)
        | flattened({"optimizer": _optimizer_file(config.optimizer)})
        | {f"algorithm.{key}": value for key, value in defaults_of(algorithm).items()}
        | flattened(option_defaults("algorithm", algorithm))
    )


def _optimizer_file(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the file that the optimizer was composed from, its class aside where it is not the default one."""
    usual = option_defaults("optimizer", "adam")
    for name in options_of("optimizer"):
        file = option_defaults("optimizer", name)
        if file.get("_target_") == optimizer.get("_target_"):
            return {**file, "_target_": usual["_target_"]}
    return {}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
