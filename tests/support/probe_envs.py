"""Environments with known answers, and environments that misbehave on demand; importing registers them."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Reset = tuple[NDArray[np.float32], dict[str, Any]]
Stepped = tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]


def vector(*components: float) -> NDArray[np.float32]:
    return np.array(components, dtype=np.float32)


def box(size: int, limit: float = np.inf) -> spaces.Box:
    return spaces.Box(-limit, limit, (size,), np.float32)


class ConstantReward(gymnasium.Env[Any, Any]):
    """One step, reward 1, nothing to see."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        return vector(0), {}

    def step(self, action: Any) -> Stepped:
        return vector(0), 1.0, True, False, {}


class RewardIsObservation(gymnasium.Env[Any, Any]):
    """One step; the observation, -1 or 1, is the reward."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.seen = float(self.np_random.choice([-1.0, 1.0]))
        return vector(self.seen), {}

    def step(self, action: Any) -> Stepped:
        return vector(self.seen), self.seen, True, False, {}


class DelayedReward(gymnasium.Env[Any, Any]):
    """Two steps; observation 0, then 1; only the second is rewarded."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        return vector(0), {}

    def step(self, action: Any) -> Stepped:
        self.step_number += 1
        last = self.step_number == 2
        return vector(1), float(last), last, False, {}


class BestAction(gymnasium.Env[Any, Any]):
    """One step; the right action depends on the observation, -1 or 1.

    Discrete: action 1 where the observation is 1, else 0, for reward 1. Continuous: half the observation, for 0.
    """

    observation_space = box(1)

    def __init__(self, continuous: bool = False) -> None:
        self.continuous = continuous
        self.action_space: spaces.Space[Any] = box(1, 2.0) if continuous else spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.seen = float(self.np_random.choice([-1.0, 1.0]))
        return vector(self.seen), {}

    def step(self, action: Any) -> Stepped:
        if self.continuous:
            reward = -((float(action[0]) - 0.5 * self.seen) ** 2)
        else:
            reward = float((action == 1) == (self.seen > 0))
        return vector(self.seen), reward, True, False, {}


class Endless(gymnasium.Env[Any, Any]):
    """Reward 1 at every step and nothing to see; after `length` steps a time limit, or an end, stops it."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 5, terminates: bool = False) -> None:
        self.length, self.terminates = length, terminates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        return vector(0), {}

    def step(self, action: Any) -> Stepped:
        self.step_number += 1
        last = self.step_number >= self.length
        return vector(0), 1.0, last and self.terminates, last and not self.terminates, {}


class Diary(gymnasium.Env[Any, Any]):
    """Observes (episode, step, last action), rewards 100 * episode + 10 * step + action.

    Episode e has `lengths[e % len(lengths)]` steps; even ones terminate, odd ones are truncated.
    """

    observation_space = box(3)
    action_space = spaces.Discrete(3)

    def __init__(self, lengths: list[int] | None = None, only_truncates: bool = False) -> None:
        self.lengths = list(lengths or (3, 5, 2))
        self.only_truncates = only_truncates
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.episode += 1
        self.step_number = 0
        return vector(self.episode, 0, -1), {}

    def step(self, action: Any) -> Stepped:
        reward = 100.0 * self.episode + 10.0 * self.step_number + float(action)
        self.step_number += 1
        last = self.step_number == self.lengths[self.episode % len(self.lengths)]
        by_time = self.only_truncates or self.episode % 2 == 1
        return vector(self.episode, self.step_number, action), reward, last and not by_time, last and by_time, {}


class FirstDecides(gymnasium.Env[Any, Any]):
    """Three steps; the first observation, -1 or 1, is the reward of the last step; the others are 0."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        self.first = float(self.np_random.choice([-1.0, 1.0]))
        return vector(self.first), {}

    def step(self, action: Any) -> Stepped:
        self.step_number += 1
        last = self.step_number == 3
        return vector(0), self.first * last, last, False, {}


class Recall(gymnasium.Env[Any, Any]):
    """Observes -1 or 1 at random; reward 1 for the action that says what was seen `back` steps ago, 1 for 1.

    Episodes of 7 steps; those of even numbers terminate, the others are truncated.
    """

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def __init__(self, back: int = 2) -> None:
        self.back = back
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.episode += 1
        self.seen = [float(self.np_random.choice([-1.0, 1.0]))]
        return vector(self.seen[-1]), {}

    def step(self, action: Any) -> Stepped:
        known = len(self.seen) > self.back
        right = known and (self.seen[-1 - self.back] > 0) == bool(action)
        last = len(self.seen) == 7
        self.seen.append(float(self.np_random.choice([-1.0, 1.0])))
        by_time = self.episode % 2 == 1
        return vector(self.seen[-1]), float(right), last and not by_time, last and by_time, {}


class Faulty(gymnasium.Env[Any, Any]):
    """Well-behaved while the action is 0; action 1 provokes `fault`."""

    observation_space = box(2)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "raise") -> None:
        self.fault = fault
        if fault == "vanish when made" and multiprocessing.current_process().name != "MainProcess":
            os._exit(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        if self.fault == "raise at reset":
            raise RuntimeError("the simulator is on fire")
        return vector(0, 0), {}

    def step(self, action: Any) -> Stepped:
        if int(action) == 0:
            return vector(0, 0), 0.0, False, False, {}
        if self.fault == "raise":
            raise RuntimeError("the simulator is on fire")
        if self.fault == "leave":
            sys.exit(0)
        if self.fault == "vanish":
            os._exit(3)
        if self.fault == "hang":
            time.sleep(60)
        observation, reward = vector(0, 0), 0.0
        if self.fault == "nan observation":
            observation = vector(0, np.nan)
        if self.fault == "infinite observation":
            observation = vector(np.inf, 0)
        if self.fault == "wrong shape":
            observation = vector(0, 0, 0)
        if self.fault == "nan reward":
            reward = np.nan
        if self.fault == "deep raise":
            np.linalg.inv(vector(0))  # NumPy raises, so that the last frame is not of this file
        return observation, reward, False, False, {}


class AnySpace(gymnasium.Env[Any, Any]):
    """Random observations of one space, actions of another; remembers the last action."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, spaces.Box):
            action = np.asarray(action)  # a vector environment hands out scalars where the shape is ()
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return self.observation_space.sample(), 0.0, False, False, {}


class Returns(gymnasium.Env[Any, Any]):
    """Returns the given values from every step, and `first_info` from a reset."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space[Any], **returned: Any) -> None:
        self.observation_space = observation_space
        usual = {"observation": None, "reward": 1.0, "terminated": False, "truncated": False, "info": {}}
        self.returned = {**usual, "first_info": {}, **returned}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), self.returned["first_info"]

    def step(self, action: Any) -> Any:
        observation = self.returned["observation"]
        first = self.observation_space.sample() if observation is None else observation
        return first, *(self.returned[name] for name in ("reward", "terminated", "truncated", "info"))


class ChangingInfo(gymnasium.Env[Any, Any]):
    """Returns infos that differ in kind or shape between environments, and one that no process can send."""

    observation_space = box(1)
    action_space = spaces.Discrete(2)

    def __init__(self, kind: str = "shape") -> None:
        self.kind = kind

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        return vector(0), self._info()

    def step(self, action: Any) -> Stepped:
        self.step_number += 1
        return vector(self.step_number), 1.0, False, self.step_number >= 4, self._info()

    def _info(self) -> dict[str, Any]:
        size = int(self.np_random.integers(3, 5))
        values = {
            "shape": np.zeros(size),
            "kind": {"deep": 1} if size == 3 else "text",
            "unsendable": (number for number in range(size)),
        }
        return {"key": values[self.kind]}


class GlobalNumbers(gymnasium.Env[Any, Any]):
    """Observes numbers from the global generators of NumPy, `random` and PyTorch: drawn when made, and at each step."""

    observation_space = box(4)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.made_with = random.random()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        return self._numbers(), {}

    def step(self, action: Any) -> Stepped:
        self.step_number += 1
        return self._numbers(), 1.0, False, self.step_number >= 5, {}

    def _numbers(self) -> NDArray[np.float32]:
        import torch

        return vector(np.random.rand(), random.random(), float(torch.rand(1)), self.made_with)


class Parts(gymnasium.Env[Any, Any]):
    """Observes a Dict of every kind of part; the reward counts where the MultiDiscrete action is the shown one.

    `flat`: observes the shown numbers alone, as a MultiDiscrete. An episode has 20 steps.
    """

    def __init__(self, flat: bool = False) -> None:
        self.flat = flat
        shown = spaces.MultiDiscrete([3, 4], start=[1, -2])
        self.action_space = spaces.MultiDiscrete([3, 4], start=[1, -2])
        self.observation_space: spaces.Space[Any] = shown
        if not flat:
            place = spaces.Dict({"x": box(2), "lamp": spaces.MultiBinary(2)})
            self.observation_space = spaces.Dict(
                {"shown": shown, "place": place, "pair": spaces.Tuple((spaces.Discrete(3, start=5), box(1)))}
            )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.step_number += 1
        reward = float((np.asarray(action) == self.shown).sum()) + 0.01 * float(action[0])
        return self._observation(), reward, self.step_number >= 20, False, {}

    def _observation(self) -> Any:
        draw = self.np_random
        self.shown = np.array([draw.integers(1, 4), draw.integers(-2, 2)])
        if self.flat:
            return self.shown
        place = {"x": draw.normal(size=2).astype(np.float32), "lamp": draw.integers(0, 2, 2).astype(np.int8)}
        return {"shown": self.shown, "place": place, "pair": (np.int64(draw.integers(5, 8)), vector(draw.normal()))}


class Dot(gymnasium.Env[Any, Any]):
    """A white dot on the left or on the right of a picture; the action must name its side.

    `mixed`: a vector, which says nothing, is seen beside the picture. An episode has 10 steps.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, mixed: bool = False) -> None:
        picture = spaces.Box(0, 255, (9, 10, 1), np.uint8)
        self.observation_space = spaces.Dict(eye=picture, hand=box(2, 1)) if mixed else picture
        self._mixed = mixed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = action == (self._column >= 5)
        self.step_number += 1
        return self._seen(), float(right), False, self.step_number == 10, {}

    def _seen(self) -> Any:
        self._column = int(self.np_random.integers(10))
        picture = np.zeros((9, 10, 1), np.uint8)
        picture[self.np_random.integers(9), self._column] = 255
        return {"eye": picture, "hand": vector(0, 0)} if self._mixed else picture


class Looks(gymnasium.Env[Any, Any]):
    """Pictures of noise, alone or beside other parts; actions near the first number of a part are rewarded."""

    action_space = box(2, 1.0)

    def __init__(self, alone: bool = False) -> None:
        eye = spaces.Box(0, 255, (9, 10, 3), np.uint8)
        parts = {"eye": eye, "hand": box(2), "kind": spaces.Discrete(3), "map": spaces.Box(0, 255, (1, 7, 6), np.uint8)}
        self.observation_space = eye if alone else spaces.Dict(parts)
        self.alone = alone

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        reward = -float(abs(action[0] - self.wanted))
        return self._observation(), reward, self.step_number >= 7, False, {}

    def _observation(self) -> Any:
        draw = self.np_random
        eye = draw.integers(0, 256, (9, 10, 3)).astype(np.uint8)
        self.wanted = float(eye[0, 0, 0]) / 255
        hand, kind = draw.normal(size=2).astype(np.float32), np.int64(draw.integers(3))
        map_ = draw.integers(0, 256, (1, 7, 6)).astype(np.uint8)
        return eye if self.alone else {"eye": eye, "hand": hand, "kind": kind, "map": map_}


class Orders(gymnasium.Env[Any, Any]):
    """Shows which of three goods is wanted, and how much of it; only the right one in the right amount is rewarded.

    The reward is 1 for both, 0 for a wrong one, and less for a wrong amount: half of the best for the mean of them. An
    episode has 10 steps.
    """

    observation_space = box(4)
    action_space = spaces.Dict(which=spaces.Discrete(3, start=1), how=spaces.Tuple((spaces.Box(0, 10, (1,)),)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.step_number = 0
        return self._next(), {}

    def step(self, action: Any) -> Stepped:
        assert self.action_space.contains(action), action
        (amount,) = action["how"]
        near = 1.0 - abs(float(amount[0]) / 5 - 1 - self.amount)
        reward = near if action["which"] == self.wanted + 1 else 0.0
        self.step_number += 1
        return self._next(), reward, False, self.step_number == 10, {}

    def _next(self) -> NDArray[np.float32]:
        self.wanted, self.amount = int(self.np_random.integers(3)), float(self.np_random.uniform(-1, 1))
        return vector(self.amount, *np.eye(3)[self.wanted])


class Allowed(gymnasium.Env[Any, Any]):
    """Allows `count` values of each component of an action, others at every step; raises where another one is taken.

    The reward is the sum of the values. An episode has 6 steps, by termination and by truncation in turn.

    Args:
        place: of the mask: observation, info, method or nowhere.
        sizes: of the components; one of them is a Discrete action.
        fault: "size": the mask is too short from step 3 on; "none": nothing is allowed then; "gone": there is no mask;
            "logits": it is 0 where actions are allowed, else -inf; "late": the info of a reset has none.
        picture: what is seen is a picture.
        lowest: actions are a Box of whole numbers from this one on.
        combined: the mask is over combinations of values, of which `count` are allowed.
    """

    def __init__(
        self,
        place: str = "info",
        sizes: list[int] | None = None,
        count: int = 2,
        fault: str = "",
        picture: bool = False,
        lowest: int | None = None,
        combined: bool = False,
    ) -> None:
        self.lowest, self.combined = lowest or 0, combined
        self.sizes = list(sizes or [5])
        self.place, self.count, self.fault, self.picture = place, count, fault, picture
        seen = spaces.Box(0, 255, (9, 9), np.uint8) if picture else box(2)
        self.action_space: spaces.Space[Any] = (
            spaces.Discrete(self.sizes[0]) if len(self.sizes) == 1 else spaces.MultiDiscrete(self.sizes)
        )
        if lowest is not None:
            low = np.full(len(self.sizes), lowest, dtype=np.int16)
            self.action_space = spaces.Box(low, (low + self.sizes - 1).astype(np.int16), dtype=np.int16)
        self.observation_space: spaces.Space[Any] = seen
        if place == "observation":
            self.observation_space = spaces.Dict(
                action_mask=spaces.MultiBinary(self.sizes if combined else sum(self.sizes)), seen=seen
            )
        self.episode = -1
        if place == "method":
            self.action_masks = self._given

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.step_number = 0
        return self._next()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        values = np.atleast_1d(action) - self.lowest
        chosen = (
            np.ravel_multi_index(values, self.sizes) if self.combined else values + np.cumsum([0, *self.sizes[:-1]])
        )
        if not self.action_space.contains(action) or not self.mask[chosen].all():
            raise RuntimeError(f"the action {action} is not allowed")
        self.step_number += 1
        last, by_time = self.step_number == 6, self.episode % 2 == 1
        observation, info = self._next()
        return observation, float(np.sum(action)), last and not by_time, last and by_time, info

    def _next(self) -> tuple[Any, dict[str, Any]]:
        choices = [math.prod(self.sizes)] if self.combined else self.sizes
        self.mask = np.concatenate([self._some(size) for size in choices])
        seen = self.np_random.normal(size=2).astype(np.float32)
        if self.picture:
            seen = self.np_random.integers(256, size=(9, 9)).astype(np.uint8)
        if self.place == "observation":
            return {"action_mask": self._given(), "seen": seen}, {}
        is_there = self.place == "info" and not (self.fault == "late" and self.step_number == 0)
        return seen, {"action_mask": self._given()} if is_there else {}

    def _some(self, size: int) -> NDArray[np.int8]:
        mask = np.zeros(size, dtype=np.int8)
        mask[self.np_random.permutation(size)[: self.count]] = 1
        return mask

    def _given(self) -> Any:
        if self.combined:
            return (0 if self.step_number == 6 else 1) * self.mask.reshape(self.sizes)
        if self.step_number == 6:  # the action that follows is not taken
            return np.zeros_like(self.mask)
        if self.step_number < 3:
            return self.mask.copy()
        logits = np.where(self.mask, 0.0, -np.inf)
        faults = {"size": self.mask[1:], "none": 0 * self.mask, "gone": None, "logits": logits}
        return faults.get(self.fault, self.mask.copy())


for _class in (
    ConstantReward, RewardIsObservation, DelayedReward, BestAction, Endless, Diary, Faulty, AnySpace, Returns,
    ChangingInfo, GlobalNumbers, Parts, Dot, Looks, Orders, Allowed, FirstDecides, Recall,
):  # fmt: skip
    gymnasium.register(f"probe/{_class.__name__}-v0", entry_point=_class)
