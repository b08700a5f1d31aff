"""Build the policy that a configuration describes, untrained or with the parameters of a checkpoint."""

from __future__ import annotations

import torch

from ppolab.config.schema import Config
from ppolab.envs.factory import VectorEnv
from ppolab.errors import CheckpointError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.records.checkpoint import Checkpoint

CPU = torch.device("cpu")


def build_policy(config: Config, env: VectorEnv, device: torch.device = CPU) -> ActorCritic:
    """Return the untrained network for the spaces of `env`; its weights come from PyTorch's global generator."""
    policy = ActorCritic(
        env.observation_size,
        action_distribution(env.action_space),
        config.model,
        normalize=config.normalize_observations,
    )
    return policy.to(device)


def policy_from(checkpoint: Checkpoint, config: Config, env: VectorEnv) -> ActorCritic:
    """Return the trained policy of a checkpoint, with its normaliser.

    Raises:
        CheckpointError: the checkpoint is of another network or another task.
    """
    policy = build_policy(config, env)
    try:
        policy.load_state_dict(checkpoint.module["policy"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"the checkpoint does not fit {config.env.id} and its model settings: {error}") from error
    return policy
