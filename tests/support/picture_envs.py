"""Small environments whose observations are images."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Dot(gymnasium.Env):
    """A white dot on the left or on the right of a picture; the action must name its side."""

    action_space = spaces.Discrete(2)

    def __init__(self, mixed: bool = False) -> None:
        picture = spaces.Box(0, 255, (9, 10, 1), np.uint8)
        self.observation_space = spaces.Dict(eye=picture, hand=spaces.Box(-1, 1, (2,))) if mixed else picture
        self._mixed = mixed

    def _seen(self) -> object:
        self._column = int(self.np_random.integers(10))
        picture = np.zeros((9, 10, 1), np.uint8)
        picture[self.np_random.integers(9), self._column] = 255
        return {"eye": picture, "hand": np.zeros(2, np.float32)} if self._mixed else picture

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        self._steps = 0
        return self._seen(), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        right = action == (self._column >= 5)
        self._steps += 1
        return self._seen(), float(right), False, self._steps == 10, {}


gymnasium.register("probe/Dot-v0", Dot)
