"""Wrappers as a user might write them, for `env.wrappers=[sample_wrappers:NAME]`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Doubled(gymnasium.RewardWrapper[Any, Any]):
    """Doubles rewards, and tells the sum so far in the info."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.total = 0.0

    def reset(self, **kwargs: Any) -> Any:
        self.total = 0.0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.total += float(reward)
        return observation, reward, terminated, truncated, {**info, "total": self.total, "is_long": self.total > 40}

    def reward(self, reward: Any) -> float:
        return 2.0 * float(reward)


class PlusOne(gymnasium.RewardWrapper[Any, Any]):
    """Adds one to every reward."""

    def reward(self, reward: Any) -> float:
        return float(reward) + 1.0


class Halved(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows the first half of the observation."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, gymnasium.spaces.Box)
        half = box.shape[0] // 2
        self.observation_space = gymnasium.spaces.Box(box.low[:half], box.high[:half], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        return observation[: self.observation_space.shape[0]]


class Stumbles(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises at the third step."""

    count = 0

    def step(self, action: Any) -> Any:
        self.count += 1
        if self.count == 3:
            raise KeyError("lost")
        return super().step(action)


class Crowded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells three numbers where one is expected."""

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {"three": np.zeros(3)}


def ten_steps(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """A function does as well as a class."""
    return gymnasium.wrappers.TimeLimit(env, 10)


def nothing(env: gymnasium.Env[Any, Any]) -> None:
    """Forgets to return the environment."""


def broken(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    raise RuntimeError("no such wrapper here")
