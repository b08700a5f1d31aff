"""An environment that is wrong in the way that its arguments say; importing registers it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Sick(gymnasium.Env[Any, Any]):
    """Episodes of ten steps; observations are noise, and rewards the first of them one step ago, unless said otherwise.

    Args:
        size: of the observations. reward: a constant instead. unseen: rewards are noise of their own. ends: whether
            episodes do.
    """

    action_space = spaces.Box(-1, 1, (1,), np.float32)
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(
        self, size: float = 1.0, reward: float | None = None, *, unseen: bool = False, ends: bool = True
    ) -> None:
        self._size, self._reward, self._unseen, self._ends = size, reward, unseen, ends
        self._step, self._first = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        self._step += 1
        paid = float(self.np_random.normal()) if self._unseen else self._first
        ended = self._ends and self._step == 10
        return self._look(), paid if self._reward is None else self._reward, ended, False, {}

    def _look(self) -> Any:
        noise = self.np_random.normal(size=2)
        self._first = float(noise[0])
        return (self._size * noise).astype(np.float32)


gymnasium.register("test/Sick-v0", entry_point=Sick)
