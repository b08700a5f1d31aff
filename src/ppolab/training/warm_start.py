"""Start a new run from the policy of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gymnasium import Space
from torch import Tensor

from ppolab.agents.policy import check_choices
from ppolab.config.loading import from_yaml
from ppolab.config.schema import Config, flattened
from ppolab.errors import ConfigError, spelled
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.interface import Algorithm
from ppolab.records.checkpoint import Checkpoint, load_checkpoint
from ppolab.records.run_folder import find_run

log = logging.getLogger(__name__)

SAME = ("model.activation", "normalize_observations", "model.memory")
"""Settings in which both runs must agree, though the shapes of parameters may not tell or not say why."""
OF_MEMORY = ("model.memory_size", "model.memory_layers")
"""The same where there is memory."""
SHAPELESS = ("model.initial_log_std", "model.orthogonal", "model.dropout")
"""Settings of the network that change no shape."""
VALUE_SCALE = "value_scale"
"""What `Learner.state` calls the scale of the values."""


@dataclass(frozen=True)
class WarmStart:
    """Hold what a new run takes from an earlier one: network and observation statistics, and the scale of the values.

    Attributes:
        policy: `ActorCritic.state_dict`.
        value_scale: of a run with normalize_values; else None.
        tags: for the tracking store.
    """

    policy: dict[str, Tensor]
    value_scale: dict[str, Tensor] | None
    tags: Mapping[str, str]

    def apply(self, policy: ActorCritic, learner: Algorithm) -> None:
        """Replace the untrained parameters of a new run, in place; the optimizer stays as new as it is."""
        policy.load_state_dict(self.policy)
        state = learner.state()
        if VALUE_SCALE in state and self.value_scale is not None:
            learner.load_state({**state, VALUE_SCALE: self.value_scale})


def warm_start(
    config: Config, policy: ActorCritic, action_space: Space[Any], resumed: Checkpoint | None = None
) -> WarmStart | None:
    """Return what `init_from` names; None where it is null, and for a resumed run, which has taken it before.

    Args:
        policy: of the new run, untrained. action_space: that of its environment. resumed: what it goes on from.

    Raises:
        ConfigError: there is no such run, or its network computes something else or has other sizes.
        CheckpointError: its checkpoint cannot be read; or it, or `resumed`, is refused by `check_choices`.
    """
    if resumed is not None:
        check_choices(resumed, action_space)
        return None
    if config.init_from is None:
        return None
    found = find_run("init_from", config.init_from, "best")
    checkpoint = load_checkpoint(found.checkpoint)
    check_choices(checkpoint, action_space)
    key = f"init_from={config.init_from}"
    there = from_yaml(checkpoint.config)
    _check_settings(key, there, config)
    parameters: dict[str, Tensor] = checkpoint.module["policy"]
    _check_shapes(key, parameters, policy.state_dict(), _as_in(there, config) or "take a task with the same spaces")
    steps = checkpoint.module["steps"]
    log.info("starting from the policy in %s, which was trained for %s steps", found.checkpoint, f"{steps:,}")
    run_id = checkpoint.run_id or found.folder.run_id()  # the store may have told it only after the checkpoint
    tags = {"init_from.run_id": run_id or "", "init_from.steps": str(steps)}
    value_scale = checkpoint.module.get("algorithm", {}).get(VALUE_SCALE)
    return WarmStart(parameters, value_scale, {name: tag for name, tag in tags.items() if tag})


def _check_settings(key: str, there: Config, here: Config) -> None:
    before, now = flattened(there), flattened(here)
    for name in (*SAME, *(OF_MEMORY if there.model.has_memory else ())):
        if before[name] != now[name]:
            value = spelled(before[name])
            raise ConfigError(
                f"{key}: was trained with {name}={value}, and this run has {name}={spelled(now[name])}; set "
                f"{name}={value}"
            )


def _as_in(there: Config, here: Config) -> str | None:
    """Return how to get the network of the run `there`; None where no setting of the network differs."""
    before, now = (
        {key: value for key, value in flattened(config.model, "model.").items() if key not in SHAPELESS and value != {}}
        for config in (there, here)
    )
    wanted = [f"{key}={spelled(value)}".replace(", ", ",") for key, value in before.items() if now.get(key) != value]
    parts = [f"set {' '.join(wanted)}"] if wanted else []
    if added := sorted(now.keys() - before.keys()):
        parts.append(f"leave out {', '.join(added)}")
    return f"{' and '.join(parts)}, as there" if parts else None


def _check_shapes(key: str, there: Mapping[str, Any], here: Mapping[str, Any], fix: str) -> None:
    for name in sorted({*there, *here}, key=lambda name: (name not in there or name not in here, name)):
        before, now = _shape(there.get(name)), _shape(here.get(name))
        if before != now:
            raise ConfigError(f"{key}: the networks differ: {name} is {before} there and {now} here; {fix}")


def _shape(parameter: Tensor | None) -> str:
    return "missing" if parameter is None else str(list(parameter.shape))
