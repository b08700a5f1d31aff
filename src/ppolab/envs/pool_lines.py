"""Two ways from Python to a pool of EnvPool."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.envpool_ids import INFO_KEYS


class PublicLine:
    """Step a pool by EnvPool's own methods. `log_info` names what is received of its info."""

    def __init__(self, pool: Any, log_info: Sequence[str]) -> None:
        self._pool = pool
        self._log_info = log_info

    def send(self, actions: NDArray[Any]) -> None:
        """Start a step."""
        self._pool.send(actions)

    def receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_], Sequence[NDArray[Any]]]:
        """Wait for the step; return observations, rewards, terminated, truncated, and what is named of the info."""
        observations, rewards, terminated, truncated, info = self._pool.recv()
        return observations, rewards, terminated, truncated, [info[name] for name in self._log_info]


class DirectLine:
    """Step a pool by the C++ calls under these methods, for one plain observation and one plain action.

    EnvPool's own methods rebuild its settings and all infos at every step. With 16 environments this takes as much of
    the main thread's time as everything else between two steps.
    """

    SENT = ("env_id", "players.env_id", "action")
    RECEIVED = ("obs", "reward", "done", "trunc")

    def __init__(self, pool: Any, num_envs: int, log_info: Sequence[str]) -> None:
        self._send, self._recv = pool._send, pool._recv
        keys = list(pool._state_keys)
        wanted = (*self.RECEIVED, *(f"{INFO_KEYS}{name}" for name in log_info))
        self._places = itemgetter(*(keys.index(key) for key in wanted))
        self._everyone = np.arange(num_envs, dtype=np.int32)
        self._type = pool.spec.action_array_spec["action"].dtype

    @classmethod
    def fits(cls, pool: Any) -> bool:
        """Return whether the pool takes nothing else, and returns what is received here."""
        return tuple(pool._spec._action_keys) == cls.SENT and set(cls.RECEIVED) <= set(pool._state_keys)

    def send(self, actions: NDArray[Any]) -> None:
        """Start a step."""
        self._send([self._everyone, self._everyone, actions.astype(self._type, order="C", copy=False)])

    def receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_], Sequence[NDArray[Any]]]:
        """Wait for the step; return observations, rewards, terminated, truncated, and what is named of the info."""
        observations, rewards, done, truncated, *info = self._places(self._recv())
        return observations, rewards, done & ~truncated, truncated, info
