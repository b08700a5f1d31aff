"""Environments that show nothing of their state, brought back by living their episodes again.

Where random numbers are drawn at resets only, an environment is what its seed, the number of its resets and the actions
since the last one have made of it. So these are written down, which costs next to nothing; coming back costs as many
resets as there were, and at most one episode's steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.state import State
from ppolab.errors import StateNotReached


class Pool(Protocol):
    """What can reset and step some of its environments."""

    def reset(self, env_id: NDArray[np.int32]) -> tuple[Any, ...]:
        """Of the named environments: first observations, ..."""

    def step(self, action: NDArray[Any], env_id: NDArray[np.int32]) -> tuple[Any, ...]:
        """Of the named environments: observations, ..."""


class Logbook:
    """Resets and actions of N environments since they were made. longest: steps of an episode at most."""

    def __init__(self, seeds: Sequence[int], longest: int) -> None:
        self._seeds = list(seeds)
        self._resets = np.zeros(len(seeds), dtype=np.int64)
        self._lengths = np.zeros(len(seeds), dtype=np.int64)
        self._actions: deque[NDArray[Any]] = deque(maxlen=longest)

    def reset(self, which: NDArray[np.bool_]) -> None:
        """New episodes began where `which` [N]."""
        self._resets[which] += 1
        self._lengths[which] = 0

    def stepped(self, actions: NDArray[Any], ended: NDArray[np.bool_]) -> None:
        """Actions [N, ...], not to be changed any more, were sent; where an episode had `ended` [N] they only reset."""
        self._actions.append(actions)
        self._lengths += 1
        if ended.any():
            self.reset(ended)

    def states(self, observations: NDArray[Any]) -> list[State]:
        """What `relive` needs, of every environment, and the observation [N, ...] that it must lead to."""
        return [
            {
                "seed": seed,
                "resets": int(self._resets[index]),
                "actions": np.array([actions[index] for actions in self._latest(int(self._lengths[index]))]),
                "observation": observations[index].copy(),
            }
            for index, seed in enumerate(self._seeds)
        ]

    def load(self, states: Sequence[State]) -> None:
        """Go on from what `states` gave."""
        self._resets[:] = [state["resets"] for state in states]
        self._lengths[:] = [len(state["actions"]) for state in states]
        self._actions.clear()
        self._actions.extend(_aligned(states))

    def _latest(self, count: int) -> list[NDArray[Any]]:
        return list(self._actions)[len(self._actions) - count :]


def relive(pool: Pool, states: Sequence[State]) -> None:
    """Bring environments that were just made with the seeds of `states` to where these were taken.

    Raises:
        StateNotReached: the last observations are others, as with another version of the simulator.
    """
    observations: list[Any] = [None] * len(states)

    def keep(ids: NDArray[np.int32], answer: tuple[Any, ...]) -> None:
        for index, observation in zip(ids.tolist(), answer[0], strict=True):
            observations[index] = observation

    resets = np.array([state["resets"] for state in states])
    for count in range(resets.max()):
        ids = np.flatnonzero(resets > count).astype(np.int32)
        keep(ids, pool.reset(ids))
    actions = _aligned(states)
    begins = len(actions) - np.array([len(state["actions"]) for state in states])
    for t, row in enumerate(actions):
        ids = np.flatnonzero(begins <= t).astype(np.int32)
        keep(ids, pool.step(row[ids], ids))
    for observation, state in zip(observations, states, strict=True):
        if not np.array_equal(observation, state["observation"]):
            raise StateNotReached(
                "the environments do not come to the observations of the checkpoint; their simulator may be of another "
                "version, or this another kind of processor"
            )


def _aligned(states: Sequence[State]) -> NDArray[Any]:
    """The actions [T, N, ...] of all, those of shorter episodes behind zeros."""
    longest = max((state["actions"] for state in states), key=len)
    aligned = np.zeros((len(longest), len(states), *longest.shape[1:]), longest.dtype)
    for index, state in enumerate(states):
        if len(state["actions"]):
            aligned[-len(state["actions"]) :, index] = state["actions"]
    return aligned
