"""Count the episodes of several environments: sums of rewards, and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.learning.native.library import native_library
from ppolab.learning.rollout import Episode


class EpisodeStatistics:
    """Sum rewards and lengths of the episodes under way in N environments; each is counted once, when it ends.

    Where the learner's episodes are parts of whole games, these are counted: see `add`. The discounted sums, on which
    reward scaling rests, are always of the learner's rewards and episodes.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._total_rewards = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._discounted = np.zeros(num_envs)

    def add(
        self,
        rewards: NDArray[np.float64],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        game: tuple[NDArray[np.float64], NDArray[np.bool_]] | None = None,
        *,
        in_native: bool = False,
    ) -> tuple[NDArray[np.float64], list[Episode]]:
        """Add T steps [T, N]; return the discounted sums [T, N] after each, and the episodes that ended, in order.

        Args:
            game: rewards and ends of the games themselves, whose ends are among `ended`; None: those of the learner.
            in_native: let C++ code do it, which can be loaded here; not with games.
        """
        if in_native and game is None:
            return self._add_in_native(rewards, ended, valid)
        scores, over = (rewards, ended) if game is None else game
        discounted = np.empty_like(rewards)
        finished: list[Episode] = []
        for t in range(len(rewards)):
            counted = rewards[t] * valid[t]
            self._total_rewards += counted if game is None else scores[t] * valid[t]
            self._lengths += valid[t]
            np.multiply(self._discounted, self._gamma, out=self._discounted)
            self._discounted += counted
            discounted[t] = self._discounted
            if ended[t].any():
                self._discounted[ended[t]] = 0
                finished += self._end(over[t])
        return discounted, finished

    def _add_in_native(
        self, rewards: NDArray[np.float64], ended: NDArray[np.bool_], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], list[Episode]]:
        discounted, most = np.empty_like(rewards), int(ended.sum())
        totals, lengths = np.empty(most), np.empty(most, dtype=np.int64)
        assert all(each.flags.c_contiguous for each in (rewards, ended, valid))
        native_library().ppo_episode_steps(
            rewards.ctypes.data, ended.ctypes.data, valid.ctypes.data, *rewards.shape, self._gamma,
            self._total_rewards.ctypes.data, self._discounted.ctypes.data, self._lengths.ctypes.data,
            discounted.ctypes.data, totals.ctypes.data, lengths.ctypes.data,
        )  # fmt: skip
        return discounted, [Episode(*each) for each in zip(totals.tolist(), lengths.tolist(), strict=True)]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the sums as they stand."""
        return {
            "rewards": self._total_rewards.copy(),
            "lengths": self._lengths.copy(),
            "discounted": self._discounted.copy(),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self._total_rewards[:], self._lengths[:] = state["rewards"], state["lengths"]
        self._discounted[:] = state["discounted"]

    def forget(self, which: NDArray[np.bool_]) -> None:
        """Drop the episodes under way in the environments `which` [N]."""
        for sums in (self._total_rewards, self._lengths, self._discounted):
            sums[which] = 0

    def unfinished(self) -> list[Episode]:
        """Return the episodes under way as far as they are, one per environment."""
        return [
            Episode(float(total), int(length)) for total, length in zip(self._total_rewards, self._lengths, strict=True)
        ]

    def _end(self, ended: NDArray[np.bool_]) -> list[Episode]:
        finished = [
            Episode(float(self._total_rewards[index]), int(self._lengths[index])) for index in np.flatnonzero(ended)
        ]
        self.forget(ended)
        return finished
