"""Bring environments that do not show their state back to it, by replaying their episodes.

Where random numbers are drawn at resets only, the state of an environment follows from its seed, the number of its
resets, and the actions since the last one. So these are recorded, at almost no cost. A restore then takes as many
resets as there were, and at most one episode's steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.snapshot import State
from ppolab.errors import StateNotReached


class Pool(Protocol):
    """A pool that can reset and step some of its environments."""

    def reset(self, env_id: NDArray[np.int32]) -> tuple[Any, ...]:
        """Reset the named environments; return their first observations, ..."""

    def step(self, action: NDArray[Any], env_id: NDArray[np.int32]) -> tuple[Any, ...]:
        """Step the named environments; return their observations, ..."""


class ActionRecord:
    """Resets and actions of N environments since they were made; an episode has at most `longest` steps."""

    def __init__(self, seeds: Sequence[int], longest: int) -> None:
        self._seeds = list(seeds)
        self._resets = np.zeros(len(seeds), dtype=np.int64)
        self._lengths = np.zeros(len(seeds), dtype=np.int64)
        self._actions: deque[NDArray[Any]] = deque(maxlen=longest)

    def reset(self, which: NDArray[np.bool_]) -> None:
        """Record that new episodes began where `which` [N]."""
        self._resets[which] += 1
        self._lengths[which] = 0

    def stepped(self, actions: NDArray[Any], ended: NDArray[np.bool_]) -> None:
        """Record actions [N, ...], which nobody may change later; where an episode had `ended` [N] they only reset."""
        self._actions.append(actions)
        self._lengths += 1
        if ended.any():
            self.reset(ended)

    def took(self, actions: NDArray[Any], ended: NDArray[np.bool_]) -> None:
        """Record T steps at once: actions [T, N, ...], and where an episode had ended before [T, N]."""
        self._actions.extend(actions)
        self._lengths += len(actions)
        self._resets += ended.sum(axis=0)
        since = ended[::-1].argmax(axis=0)  # steps after the last one that only reset
        self._lengths = np.where(ended.any(axis=0), since, self._lengths)

    def states(self, observations: NDArray[Any]) -> list[State]:
        """Return what `replay` needs of every environment, with the observations [N, ...] that it must reach."""
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
        """Continue from what `states` returned."""
        self._resets[:] = [state["resets"] for state in states]
        self._lengths[:] = [len(state["actions"]) for state in states]
        self._actions.clear()
        self._actions.extend(_aligned(states))

    def _latest(self, count: int) -> list[NDArray[Any]]:
        return list(self._actions)[len(self._actions) - count :]


def replay(pool: Pool, states: Sequence[State]) -> None:
    """Bring environments, just made with the seeds of `states`, to where these were taken.

    Raises:
        StateNotReached: the last observations differ, as with another version of the simulator.
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
                "the environments do not come to the observations of the checkpoint; the simulator may be of another "
                "version, or the processor of another kind"
            )


def _aligned(states: Sequence[State]) -> NDArray[Any]:
    """Return the actions [T, N, ...] of all environments, those of shorter episodes after rows of zeros."""
    longest = max((state["actions"] for state in states), key=len)
    aligned = np.zeros((len(longest), len(states), *longest.shape[1:]), longest.dtype)
    for index, state in enumerate(states):
        if len(state["actions"]):
            aligned[-len(state["actions"]) :, index] = state["actions"]
    return aligned
