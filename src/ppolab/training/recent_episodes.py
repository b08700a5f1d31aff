"""Keep the latest training episodes, whose means are train/return, train/length and the metrics of env.log_info."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ppolab.config.metrics import info_metric
from ppolab.learning.rollout import Episode

EPISODE_WINDOW = 100
"""Over at most how many finished episodes, the most recent, train/return is the mean."""

RECENT_SHARE = 0.2
"""They must have ended in the last fifth of the steps so far: else the mean of a short run is that of all of it."""


class RecentEpisodes:
    """The latest episodes, in the order of their ends, each with the run's environment steps at that time."""

    def __init__(self) -> None:
        self._ended: deque[tuple[int, Episode]] = deque(maxlen=EPISODE_WINDOW)

    def __iter__(self) -> Iterator[Episode]:
        """Go through all that are kept, those too that ended long ago."""
        return (episode for _, episode in self._ended)

    def add(self, steps: int, episodes: Iterable[Episode]) -> None:
        """Add episodes that ended by `steps`."""
        self._ended.extend((steps, episode) for episode in episodes)

    def clear(self) -> None:
        """Forget all."""
        self._ended.clear()

    def latest(self, steps: int) -> list[Episode]:
        """Return those that count after `steps`, at least those of the last iteration in which any ended."""
        if not self._ended:
            return []
        first = min((1 - RECENT_SHARE) * steps, self._ended[-1][0])
        return [episode for ended, episode in self._ended if ended >= first]

    def metrics(self, steps: int, log_info: Sequence[str] = ()) -> dict[str, float]:
        """Return their means after `steps`; those of `log_info` that no episode had are left out."""
        episodes = self.latest(steps)
        if not episodes:
            return {}
        found = {
            "train/return": float(np.mean([episode.total_reward for episode in episodes])),
            "train/length": float(np.mean([episode.length for episode in episodes])),
        }
        for name in log_info:
            values = [episode.info[name] for episode in episodes if name in episode.info]
            if values:
                found[info_metric(name)] = float(np.mean(values))
        return found

    def state(self) -> dict[str, Any]:
        """Return what `load_state` takes, as entries of a checkpoint."""
        return {
            "recent_episodes": [_stored(episode) for _, episode in self._ended],
            "recent_ends": [ended for ended, _ in self._ended],
        }

    def load_state(self, state: dict[str, Any], steps: int) -> None:
        """Go on from a checkpoint of `steps`; an earlier version's does not tell when episodes ended."""
        episodes = [Episode(*stored) for stored in state["recent_episodes"]]
        ends = state.get("recent_ends", [steps] * len(episodes))
        self._ended.extend(zip(ends, episodes, strict=True))


def _stored(episode: Episode) -> tuple[Any, ...]:
    """Return an episode for a checkpoint; one without info as in checkpoints from before there was any."""
    told = (episode.total_reward, episode.length)
    return (*told, dict(episode.info)) if episode.info else told
