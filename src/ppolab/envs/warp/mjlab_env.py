"""Vector environments of mjlab's tasks."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
import warp
from gymnasium import spaces

from ppolab.config.schema import EnvConfig
from ppolab.envs.mjlab_choice import configured, observed_groups
from ppolab.envs.seeding import private_generators
from ppolab.envs.warp.mjlab_worlds import MjlabWorlds, OwnNumbers
from ppolab.envs.warp.worlds_env import WorldsEnv
from ppolab.errors import ConfigError


class MjlabEnv(WorldsEnv):
    """N worlds of one of mjlab's tasks."""

    backend = "mjlab"
    worlds: MjlabWorlds

    def _made(self, seeds: Sequence[int]) -> tuple[MjlabWorlds, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
        return made_worlds(self._config, seeds, self._device)


def made_worlds(
    env: EnvConfig, seeds: Sequence[int], device: torch.device
) -> tuple[MjlabWorlds, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
    """Return one world per seed, and the spaces of observations and actions. The first seed is that of all of them.

    Raises:
        ConfigError: the task cannot be made, or its observations are no vectors.
    """
    config = configured(env)
    config.scene.num_envs = len(seeds)
    config.seed, config.auto_reset = None, True
    groups = observed_groups(env.id)
    numbers = OwnNumbers(seeds[0], device)
    warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
    kind = importlib.import_module("mjlab.envs").ManagerBasedRlEnv
    try:
        with private_generators(seeds[0]), numbers.drawn(), contextlib.redirect_stdout(io.StringIO()):
            made = kind(config, device=str(device))
            _compile(made.sim)
    except Exception as error:  # whatever a task raises, these arguments do not make it
        given = f" env.kwargs={env.kwargs}" if env.kwargs else ""
        told = (str(error) or "no reason given").splitlines()[0]
        raise ConfigError(
            f"env.id={env.id}{given}: cannot be made: {type(error).__name__}: {told}; change env.kwargs"
        ) from error
    width = sum(_width(env.id, name, made.observation_manager.group_obs_dim[name]) for name in groups)
    observations = spaces.Box(-np.inf, np.inf, (width,), np.float32)
    actions = spaces.Box(-np.inf, np.inf, (made.action_manager.total_action_dim,), np.float32)
    return MjlabWorlds(made, groups, numbers), (observations, actions)


def _compile(simulation: Any) -> None:
    """Use all kernels once: compiling them may take minutes on a processor, which no step may."""
    simulation.step()
    simulation.forward()
    simulation.sense()
    simulation.reset()


def _width(env_id: str, group: str, shape: Any) -> int:
    if not isinstance(shape, tuple) or len(shape) != 1:
        raise ConfigError(
            f"env.id={env_id}: its group of observations {group} is of shape {shape}, and ppolab reads vectors of "
            "mjlab's tasks only; choose another task"
        )
    return int(shape[0])
