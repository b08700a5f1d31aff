"""Hold what the steps of a rollout returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.action_masks import Flags
from ppolab.envs.vector_env import Step
from ppolab.learning.stacked_images import ChannelStore


@dataclass(frozen=True)
class Steps:
    """Hold what T steps of N environments returned, in arrays that every rollout fills anew.

    Attributes:
        observations: [T+1, N, W] raw rows; the last row is what follows the last action. They are set and read by
            (time, slice of environments).
        rewards: [T, N] unscaled. terminated, truncated, valid: [T, N] bool.
        info: [T, N, K], filled where an episode ended; see `ppolab.envs.vector_env.Step`.
        game_rewards, game_over: [T, N], filled where the environments tell of their games.
        masks: [T+1, N, A] bool, the actions that the observations allow; None where all are allowed.
    """

    observations: NDArray[Any] | ChannelStore
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    info: NDArray[np.float64]
    game_rewards: NDArray[np.float64]
    game_over: NDArray[np.bool_]
    masks: Flags | None = None

    def put(self, t: int, rows: slice, step: Step, masks: Flags | None) -> None:
        """Store what the action at time t led to, and the `masks` [..., A] of the actions that are allowed then."""
        self.observations[t + 1, rows] = step.observations
        self.rewards[t, rows] = step.rewards
        self.terminated[t, rows] = step.terminated
        self.truncated[t, rows] = step.truncated
        self.valid[t, rows] = step.valid
        if step.info is not None:
            self.info[t, rows] = step.info
        if step.game is not None:
            self.game_rewards[t, rows], self.game_over[t, rows] = step.game
        if self.masks is not None:
            self.masks[t + 1, rows] = masks
