"""Where EnvPool's tasks differ from Gymnasium's.

EnvPool flags an end on the last allowed step as truncated only; Gymnasium says both. A bootstrap from the value of the
final observation would then be wrong. `END_CONDITIONS` finds such ends again, task by task, from what EnvPool returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class FinalRows:
    """What K environments of a pool returned with their last steps.

    Attributes:
        observations: [K, ...], or a dictionary of such. rewards: [K]. config: the configuration of the pool.
    """

    observations: Any
    rewards: NDArray[Any]
    config: Any


EndCondition = Callable[[FinalRows], Flags]
"""Returns [K]: whether the task itself ended."""

UNLIKE_GYMNASIUM = {
    "Humanoid-v4": "EnvPool leaves the contact forces in the observation at 0",
    "HumanoidStandup-v4": "EnvPool leaves the contact forces in the observation at 0, and their cost out of the reward",
}
"""Tasks of which `auto` takes Gymnasium's version, and why."""


LEARNERS_OWN = ("episodic_life", "reward_clip")
"""Arguments of Atari that end an episode with a life, and clip rewards: for the learner, not for whoever counts."""

GAME_INFO = SCORED, OVER = ("reward", "terminated")
"""Entries of Atari's info: the reward before it is clipped, and whether the game is over."""


def plain_name(env_id: str) -> str:
    """Return the name of a task without namespace, version and hyphens, which its several ids differ in."""
    return env_id.rpartition("/")[2].rpartition("-v")[0].replace("-", "")


def end_condition(env_id: str) -> EndCondition | None:
    """Return what tells an end of the task `env_id`, whatever its version; None where nothing is known of it."""
    if env_id in _UNTOLD:
        return None
    return END_CONDITIONS.get(plain_name(env_id))


def _never(rows: FinalRows) -> Flags:
    return np.zeros(len(rows.rewards), dtype=np.bool_)


def _always(rows: FinalRows) -> Flags:
    """Return all: the limit of the task ends nothing, yet an end that comes after it is called truncated."""
    return np.ones(len(rows.rewards), dtype=np.bool_)


def _acrobot(rows: FinalRows) -> Flags:
    cos1, sin1, cos2, sin2 = rows.observations[:, :4].T
    return np.asarray(-cos1 - (cos1 * cos2 - sin1 * sin2) > 1.0)


def _cartpole(rows: FinalRows) -> Flags:
    position, angle = np.abs(rows.observations[:, [0, 2]]).T
    return np.asarray((position > 2.4) | (angle > 12 * 2 * math.pi / 360))


def _mountain_car(rows: FinalRows) -> Flags:
    return np.asarray((rows.observations[:, 0] >= 0.5) & (rows.observations[:, 1] >= 0))


def _mountain_car_continuous(rows: FinalRows) -> Flags:
    return np.asarray((rows.observations[:, 0] >= 0.45) & (rows.observations[:, 1] >= 0))


def _unhealthy(healthy: EndCondition, hidden: int) -> EndCondition:
    """Return the condition of a MuJoCo task; its observations leave out the first `hidden` coordinates of the root."""

    def ended(rows: FinalRows) -> Flags:
        if not rows.config.terminate_when_unhealthy:
            return _never(rows)
        first = 0 if rows.config.exclude_current_positions_from_observation else hidden
        return ~healthy(replace(rows, observations=rows.observations[:, first:]))

    return ended


def _within(values: NDArray[Any], low: float, high: float) -> Flags:
    return np.asarray((low < values) & (values < high))


def _hopper(rows: FinalRows) -> Flags:
    state = _within(rows.observations[:, 1:], rows.config.healthy_state_min, rows.config.healthy_state_max).all(axis=1)
    angle = _within(rows.observations[:, 1], rows.config.healthy_angle_min, rows.config.healthy_angle_max)
    return np.asarray(state & angle & (rows.observations[:, 0] > rows.config.healthy_z_min))


def _walker2d(rows: FinalRows) -> Flags:
    height = _within(rows.observations[:, 0], rows.config.healthy_z_min, rows.config.healthy_z_max)
    return height & _within(rows.observations[:, 1], rows.config.healthy_angle_min, rows.config.healthy_angle_max)


def _ant(rows: FinalRows) -> Flags:
    height = rows.observations[:, 0]
    finite = np.isfinite(rows.observations).all(axis=1)
    return np.asarray(finite & (rows.config.healthy_z_min <= height) & (height <= rows.config.healthy_z_max))


def _humanoid(rows: FinalRows) -> Flags:
    return _within(rows.observations[:, 0], rows.config.healthy_z_min, rows.config.healthy_z_max)


def _inverted_pendulum(rows: FinalRows) -> Flags:
    return np.asarray(~np.isfinite(rows.observations).all(axis=1) | (np.abs(rows.observations[:, 1]) > 0.2))


def _inverted_double_pendulum(rows: FinalRows) -> Flags:
    """Since v5 only a pole that still stands earns the 10 of `healthy_reward`; all else in the reward is a cost."""
    return np.asarray(rows.rewards <= 0)


def _lunar_lander(rows: FinalRows) -> Flags:
    """A crash replaces the reward by -100, a landing by 100."""
    return np.asarray(np.abs(rows.rewards) == 100)


def _bipedal_walker(rows: FinalRows) -> Flags:
    """A fall replaces the reward by -100. Nothing tells that the end of the track is reached."""
    return np.asarray(rows.rewards == -100)


def _frozen_lake(rows: FinalRows) -> Flags:
    from gymnasium.envs.toy_text.frozen_lake import MAPS  # imports four more tasks

    tiles = np.array(list("".join(MAPS[f"{rows.config.size}x{rows.config.size}"])))
    return np.isin(tiles[rows.observations.reshape(-1)], ["H", "G"])


def _taxi(rows: FinalRows) -> Flags:
    return np.asarray(rows.rewards == 20)


END_CONDITIONS: dict[str, EndCondition] = {
    "Acrobot": _acrobot,
    "Ant": _unhealthy(_ant, 2),
    "BipedalWalker": _bipedal_walker,
    "BipedalWalkerHardcore": _bipedal_walker,
    "CartPole": _cartpole,
    "FrozenLake": _frozen_lake,
    "FrozenLake8x8": _frozen_lake,
    "Game2048": _always,
    "HalfCheetah": _never,
    "Hopper": _unhealthy(_hopper, 1),
    "Humanoid": _unhealthy(_humanoid, 2),
    "HumanoidStandup": _never,
    "InvertedDoublePendulum": _inverted_double_pendulum,
    "InvertedPendulum": _inverted_pendulum,
    "LunarLander": _lunar_lander,
    "LunarLanderContinuous": _lunar_lander,
    "Minesweeper": _always,
    "MountainCar": _mountain_car,
    "MountainCarContinuous": _mountain_car_continuous,
    "Pendulum": _never,
    "Pusher": _never,
    "Reacher": _never,
    "Swimmer": _never,
    "Taxi": _taxi,
    "Walker2d": _unhealthy(_walker2d, 1),
}
"""By name, without the version. The values of MuJoCo's conditions are those of the pool."""

_UNTOLD = ("InvertedDoublePendulum-v2", "InvertedDoublePendulum-v4")
"""Versions whose returned values do not tell it."""
