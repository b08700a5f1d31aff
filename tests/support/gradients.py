"""Networks, minibatches and their gradients, for tests of the update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from helpers import drawn, ppo_objective, tiny_config

from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.flat_parameters import FlatParameters
from ppolab.learning.gradient import Gradient, whole_gradient
from ppolab.learning.native.library import compiler
from ppolab.learning.objective import Samples

BOX, DISCRETE = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
BOTH = spaces.Dict(amount=spaces.Box(-1, 1, (1,)), kind=spaces.Discrete(3))


INPUTS = 3


needs_compiler = pytest.mark.skipif(compiler() is None, reason="compiling needs a C++ compiler")


def config_with(**settings) -> Config:
    """Minibatches of 8 out of up to 32 samples, and every part of the loss switched on, whatever the defaults."""
    explicit = {
        "minibatch_size": 8, "normalize_advantages": True, "recompute_advantages": True, "max_grad_norm": 0.5,
        "model.initial_log_std": 0.0,
    }  # fmt: skip
    return tiny_config("probe/Diary-v0", **(explicit | settings))


def algorithm_config(algorithm: str, **settings: Any) -> Config:
    """A small network and short rollouts, for any algorithm."""
    small = {"algorithm": algorithm, "model.hidden_sizes": [5], "max_grad_norm": 0.0, "num_envs": 4, "rollout_steps": 8}
    return tiny_config("probe/Diary-v0", **(small | settings))


def new_policy(config: Config, space: spaces.Space = BOX, seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(space), config.model, normalize=False)
    with torch.no_grad():  # far enough from the initial near-uniform policy that every term matters
        policy.action_head.weight.mul_(50.0)
    return policy


def gradient_of(policy: ActorCritic, flat: FlatParameters, config: Config) -> Gradient:
    return whole_gradient(policy, flat, ppo_objective(policy, config))


def random_batch(policy: ActorCritic, size: int, seed: int) -> Samples:
    """A minibatch of which a sixth is padding and whose policy has moved since the data were collected."""
    rng = torch.Generator().manual_seed(seed)
    observations = torch.randn((size, INPUTS), generator=rng)
    with torch.no_grad():
        parameters = policy.action_parameters(observations)
        actions = drawn(policy.distribution, parameters, seed)
        log_probs = policy.distribution.log_prob(parameters, actions) + 0.3 * torch.randn(size, generator=rng)
    others = torch.randn((3, size), generator=rng)
    return Samples(observations, actions, parameters, log_probs, *others, (torch.arange(size) >= size // 6).float())
