"""Build the policy that a configuration describes, untrained or with the parameters of a checkpoint."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from gymnasium import Space

from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.envs.action_masks import as_trained
from ppolab.envs.choices import Choices, with_choices
from ppolab.envs.factory import VectorEnv, environment_spaces, policy_space, seen_space
from ppolab.envs.spaces import named_parts, row_encoder
from ppolab.errors import CheckpointError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.own_network import OwnNetwork
from ppolab.records.checkpoint import Checkpoint

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
CHOICES = "choices"
"""The key of a checkpoint that knows whole numbers of a Box as choices; earlier ones took them for numbers."""


def check_network(config: Config) -> None:
    """Make networks of the user's own once, if there are some, and log which of their parameters will not be trained.

    Raises:
        ConfigError: one does not keep its contract, or the environment cannot be made.
    """
    if not config.model.is_own:
        return
    observation_space, action_space = environment_spaces(config.env)
    layout, _ = row_encoder(seen_space(config.env, observation_space, action_space))
    policy = _network(config, layout, policy_space(config.env, observation_space, action_space))
    for name, own in policy.named_modules():
        if isinstance(own, OwnNetwork) and own.unreached:
            log.warning(
                "%s: no feature of the %s depends on its parameters %s, which therefore stay as they are",
                own.setting, name.partition(".")[0], ", ".join(own.unreached),
            )  # fmt: skip


def build_policy(config: Config, env: VectorEnv, device: torch.device = CPU) -> ActorCritic:
    """Return the untrained network for the spaces of `env`; its weights come from PyTorch's global generator."""
    return _network(config, env.layout, env.policy_space).to(device)


def fresh_policy(config: Config, observation_space: Space[Any], action_space: Space[Any]) -> ActorCritic:
    """Return the untrained network for these spaces; PyTorch's global generator stays as it is."""
    layout, _ = row_encoder(seen_space(config.env, observation_space, action_space))
    with torch.random.fork_rng(devices=[]):  # making a network draws its first weights
        return _network(config, layout, policy_space(config.env, observation_space, action_space))


def policy_from(
    checkpoint: Checkpoint, config: Config, observation_space: Space[Any], action_space: Space[Any]
) -> ActorCritic:
    """Return the trained policy of a checkpoint, with its normaliser; PyTorch's global generator stays as it is.

    Raises:
        CheckpointError: the checkpoint is of another network or another task, or see `check_choices`.
    """
    check_choices(checkpoint, action_space)
    masked = checkpoint.module.get("masked", False)  # not in checkpoints from before there were masks
    as_it_was = replace(config, env=as_trained(config.env, masked=masked))
    policy = fresh_policy(as_it_was, observation_space, action_space)
    try:
        policy.load_state_dict(checkpoint.module["policy"])
    except (RuntimeError, KeyError) as error:
        told = " ".join(str(error).split())  # PyTorch lists what differs in lines of their own
        raise CheckpointError(f"the checkpoint does not fit {config.env.id} and its model settings: {told}") from error
    policy.masked = masked
    return policy


def check_choices(checkpoint: Checkpoint, action_space: Space[Any]) -> None:
    """Raise CheckpointError where a policy was trained to answer with numbers what is a choice now."""
    for name, part in named_parts(with_choices(action_space)):
        if isinstance(part, Choices) and not checkpoint.module.get(CHOICES, False):
            where = f" in its part {name}" if name else ""
            raise CheckpointError(
                f"the checkpoint is of an earlier ppolab, for which the whole numbers of the action {part}{where} were "
                "no choices; train again, or use it with that version"
            )


def _network(config: Config, layout: RowLayout, chosen_space: Space[Any]) -> ActorCritic:
    distribution = action_distribution(chosen_space)
    return ActorCritic(layout, distribution, config.model, normalize=config.normalize_observations)
