"""Modules of small runs, trained without a Trainer around them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from helpers import make_env
from torch import Tensor

from ppolab.agents.policy import build_policy
from ppolab.config.schema import Config
from ppolab.training.build import build_module
from ppolab.training.module import OnPolicyModule


def trained_module(config: Config, iterations: int) -> OnPolicyModule:
    """Return the module after some iterations; its environments are closed."""
    torch.manual_seed(config.seed)
    env = make_env(config)
    module = build_module(config, env, build_policy(config, env))
    module.start()
    for iteration in range(iterations):
        module.training_step(None, iteration)
    env.close()
    return module


def whole_and_resumed(
    config: Config, stored: Callable[[dict[str, Any]], dict[str, Any]] = copy.deepcopy
) -> tuple[Tensor, Tensor]:
    """Return the parameters after two iterations, of one run, and of one that went on from the state after the first.

    Args:
        stored: what becomes of that state where it is kept.
    """
    ends: list[Tensor] = []
    state: dict[str, Any] = {}
    for resumed in (False, True):
        torch.manual_seed(1)
        env = make_env(config)
        module = build_module(config, env, build_policy(config, env))
        if resumed:
            module.start(state)
        else:
            module.start()
            module.training_step(None, 0)
            state = stored(module.state(barrier=True))
        module.training_step(None, 1)
        ends.append(module.parameters_vector.vector.detach().clone())
        env.close()
    return ends[0], ends[1]
