"""Agents of untrained policies, for tests that need no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from helpers import tiny_config

from ppolab.agents.agent import Agent
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.config.schema import Config
from ppolab.envs.action_masks import chosen_space, network_space
from ppolab.envs.choices import with_choices
from ppolab.envs.spaces import row_encoder
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.records.run_folder import FoundRun, RunFolder

NOWHERE = FoundRun(RunFolder(Path("nowhere")), Path("nowhere/checkpoints/best.ckpt"))


def trained_on(
    observations: spaces.Space[Any], actions: spaces.Space[Any], config: Config, *, masked: bool = False
) -> TrainedPolicy:
    """A policy for these spaces that reacts to its observations, with made-up statistics of them."""
    layout, _ = row_encoder(network_space(observations, actions) if masked else observations)
    chosen = chosen_space(observations, actions) if masked else with_choices(actions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActorCritic(layout, action_distribution(chosen), config.model, normalize=config.normalize_observations)
        policy.masked = masked
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter += 0.3 * torch.randn(parameter.shape)
            policy.observation_scale.mean += torch.linspace(-1.0, 1.0, layout.vector_size, dtype=torch.float64)
            policy.observation_scale.variance += 2.0
    return TrainedPolicy(config, policy.eval(), observations, actions, 1234, NOWHERE)


def made_agent(
    observations: spaces.Space[Any], actions: spaces.Space[Any], seed: int = 0, *, masked: bool = False, **settings: Any
) -> Agent:
    """An agent for these spaces; in C++ where that can be, unless `compile` says "false"."""
    config = tiny_config("CartPole-v1", **({"normalize_observations": True, "compile": "auto"} | settings))
    return Agent(trained_on(observations, actions, config, masked=masked), seed)


def some(space: spaces.Space[Any], count: int, seed: int = 0) -> list[Any]:
    """Observations of `space`; those of a Box stay within +-3."""
    space.seed(seed)
    found = [space.sample() for _ in range(count)]
    floating = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    return [np.clip(each, -3, 3) for each in found] if floating else found
