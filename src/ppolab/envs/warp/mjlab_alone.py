"""One world of a task of mjlab's as Gymnasium has environments, to look at it and to try a policy in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from ppolab.config.schema import EnvConfig
from ppolab.envs.warp.mjlab_env import made_worlds

CPU = torch.device("cpu")


class MjlabAlone(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One world on the processor. A reset with a seed makes another one, since a seed is that of all random numbers.

    Raises:
        ConfigError: see `made_worlds`.
    """

    def __init__(self, env: EnvConfig) -> None:
        self._config = env
        self._worlds, (self.observation_space, self.action_space) = made_worlds(env, [0], CPU)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._worlds, _ = made_worlds(self._config, [seed], CPU)
        return self._worlds.reset()[0].numpy(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one step."""
        step = self._worlds.step(torch.from_numpy(np.asarray(action, dtype=np.float32))[None])
        ends = bool(step.terminated[0]), bool(step.truncated[0])
        return step.observations[0].numpy(), float(step.rewards[0]), *ends, {}
