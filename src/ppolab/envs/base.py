"""The one interface behind which every vector environment lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.spaces import action_decoder, check_spaces, observation_encoder
from ppolab.errors import EnvError


@dataclass(frozen=True)
class Step:
    """What one step of N environments returned.

    Attributes:
        observations: [N, D] float64, after the action. At an episode's end its real final observation.
        rewards: [N] float64. terminated, truncated: [N] bool.
        valid: [N] bool; False where the step only reset an environment whose episode had ended: no experience.
    """

    observations: NDArray[np.float64]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]


class VectorEnv(ABC):
    """N copies of an environment that reset themselves on the step after an episode's end (NEXT_STEP).

    Backends implement `_reset`, `_step` and `close`; encoding, checking and the `valid` mask are shared here.
    """

    backend: str

    def __init__(
        self,
        env_id: str,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        num_envs: int,
        *,
        rescale_actions: bool,
    ) -> None:
        check_spaces(env_id, observation_space, action_space)
        self.env_id = env_id
        self.num_envs = num_envs
        self.observation_space = observation_space
        self.action_space = action_space
        self.observation_size, self._encode = observation_encoder(observation_space)
        self._decode = action_decoder(action_space, rescale=rescale_actions)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._steps = 0

    def reset(self) -> NDArray[np.float64]:
        """Start a new episode everywhere; [N, D] first observations."""
        observations = self._encode(self._reset())
        self._check(observations, "observation", (self.num_envs, self.observation_size))
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        return observations

    def step(self, actions: NDArray[Any]) -> Step:
        """Apply policy actions [N, ...].

        Raises:
            EnvError: an environment raised, or returned a non-finite or wrongly shaped value.
        """
        raw_observations, raw_rewards, terminated, truncated = self._step(self._decode(actions))
        self._steps += 1
        observations = self._encode(raw_observations)
        rewards = np.asarray(raw_rewards, dtype=np.float64)
        self._check(observations, "observation", (self.num_envs, self.observation_size))
        self._check(rewards, "reward", (self.num_envs,))
        valid = ~self._ended
        self._ended = terminated | truncated
        return Step(observations, rewards, terminated, truncated, valid)

    def _check(self, values: NDArray[np.float64], what: str, shape: tuple[int, ...]) -> None:
        if values.shape != shape:
            raise EnvError(f"{self.env_id}: step {self._steps} returned a {what} of shape {values.shape}, not {shape}")
        finite = np.isfinite(values)
        if not finite.all():
            index = int(np.argwhere(~finite)[0][0])
            raise EnvError(
                f"{self.env_id}: environment {index} returned a non-finite {what} at its step {self._steps}: "
                f"{values[index]}"
            )

    @abstractmethod
    def _reset(self) -> Any:
        """A batch of first observations, as the backend gives them."""

    @abstractmethod
    def _step(self, actions: NDArray[Any]) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_]]:
        """Observations, rewards, terminated, truncated, as the backend gives them."""

    @abstractmethod
    def close(self) -> None:
        """Free processes, threads and simulators."""
