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
from ppolab.envs.factory import VectorEnv, environment_spaces, seen_space
from ppolab.envs.spaces import row_encoder
from ppolab.errors import CheckpointError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.own_network import OwnNetwork
from ppolab.records.checkpoint import Checkpoint

log = logging.getLogger(__name__)

CPU = torch.device("cpu")


def check_network(config: Config) -> None:
    """Make networks of the user's own once, if there are some, and log which of their parameters will not be trained.

    Raises:
        ConfigError: one does not keep its contract, or the environment cannot be made.
    """
    if not config.model.is_own:
        return
    observation_space, action_space = environment_spaces(config.env)
    layout, _ = row_encoder(seen_space(config.env, observation_space, action_space))
    policy = _network(config, layout, action_space)
    for name, own in policy.named_modules():
        if isinstance(own, OwnNetwork) and own.unreached:
            log.warning(
                "%s: no feature of the %s depends on its parameters %s, which therefore stay as they are",
                own.setting, name.partition(".")[0], ", ".join(own.unreached),
            )  # fmt: skip


def build_policy(config: Config, env: VectorEnv, device: torch.device = CPU) -> ActorCritic:
    """Return the untrained network for the spaces of `env`; its weights come from PyTorch's global generator."""
    return _network(config, env.layout, env.action_space).to(device)


def fresh_policy(config: Config, observation_space: Space[Any], action_space: Space[Any]) -> ActorCritic:
    """Return the untrained network for these spaces; PyTorch's global generator stays as it is."""
    layout, _ = row_encoder(seen_space(config.env, observation_space, action_space))
    with torch.random.fork_rng(devices=[]):  # making a network draws its first weights
        return _network(config, layout, action_space)


def policy_from(
    checkpoint: Checkpoint, config: Config, observation_space: Space[Any], action_space: Space[Any]
) -> ActorCritic:
    """Return the trained policy of a checkpoint, with its normaliser; PyTorch's global generator stays as it is.

    Raises:
        CheckpointError: the checkpoint is of another network or another task.
    """
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


def _network(config: Config, layout: RowLayout, action_space: Space[Any]) -> ActorCritic:
    distribution = action_distribution(action_space)
    return ActorCritic(layout, distribution, config.model, normalize=config.normalize_observations)
