"""Make pools of EnvPool, and one of their environments alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces

from ppolab.envs import families
from ppolab.envs.envpool_ids import defaults_of, family_of, has_alone, package
from ppolab.envs.envpool_import import quiet
from ppolab.envs.spaces import first_of
from ppolab.errors import ConfigError, nearest

PYBIND = "incompatible constructor arguments"
"""Of the message of EnvPool's binding to C++, whose many lines hold all arguments."""
MAX_SEED = 2**31
"""EnvPool's seeds lie below it."""


def pool_spaces(env_id: str, kwargs: dict[str, Any]) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Return the observation space and the action space of a pool.

    Raises:
        ConfigError: EnvPool does not take these arguments.
    """
    pool = made_pool(env_id, kwargs, [0], num_threads=1)
    with quiet():
        found = spaces_of_pool(pool)
    pool.close()
    return found


COUNTED = "step_count"
"""The entry of Jumanji's observations that tells how many steps an episode has had."""


def spaces_of_pool(pool: Any) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Return the observation space and the action space of one environment of a pool."""
    observations = families.trusted_space(pool.observation_space)
    if COUNTED in getattr(observations, "spaces", ()):
        observations = _with_last_step(observations, pool.spec.config.max_episode_steps)
    return observations, families.trusted_space(pool.action_space)


def _with_last_step(space: spaces.Dict, limit: int) -> spaces.Dict:
    """Return `space` with the count of the last step, which Snake and Tetris of Jumanji give and do not declare."""
    counted = space.spaces[COUNTED]
    if not isinstance(counted, spaces.Discrete) or counted.n != limit:
        return space
    return spaces.Dict({**space.spaces, COUNTED: spaces.Discrete(limit + 1)})


class EnvPoolAlone(gymnasium.Env[Any, Any]):
    """One environment of EnvPool as Gymnasium has environments; for ids that Gymnasium does not have.

    EnvPool takes a seed only when it makes an environment, so a reset with one makes another.

    Raises:
        ConfigError: it is a game of several players.
    """

    def __init__(self, env_id: str, kwargs: dict[str, Any]) -> None:
        self._make = partial(made_pool, env_id, kwargs, num_threads=1)
        self._pool = self._make([0])
        with quiet():
            self.observation_space, self.action_space = spaces_of_pool(self._pool)
            players = self._pool.spec.config.max_num_players
        if players > 1:
            self._pool.close()
            raise ConfigError(
                f"env.id={env_id}: is a game of {players} players, and ppolab trains one that plays alone; choose "
                "another environment"
            )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._pool.close()
            self._pool = self._make([seed % MAX_SEED])
        with quiet():
            observations, info = self._pool.reset()
        return first_of(observations), first_of(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        observations, rewards, terminated, truncated, info = self._pool.step(np.asarray(action)[None])
        return first_of(observations), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), first_of(info)

    def render(self) -> NoReturn:
        """Raise NotImplementedError."""
        raise NotImplementedError("EnvPool's environments are not drawn where they are stepped one by one")

    def close(self) -> None:
        """Free the simulator."""
        self._pool.close()


def made_pool(env_id: str, kwargs: dict[str, Any], seeds: Sequence[int], *, num_threads: int) -> Any:
    """Return a pool with an environment for each seed.

    Raises:
        ConfigError: EnvPool does not take these arguments, or cannot start this task.
    """
    num_envs = len(seeds)
    if why := families.cannot_start(family_of(env_id), env_id):
        raise ConfigError(f"env.id={env_id}: {why}; choose another environment")
    try:
        with quiet():
            return package().make(
                env_id, env_type="gymnasium", num_envs=num_envs, seed=list(seeds),
                num_threads=min(num_threads, num_envs), **kwargs,
            )  # fmt: skip
    except (TypeError, ValueError, AssertionError) as error:
        if not kwargs:
            raise
        raise ConfigError(f"env.kwargs={kwargs}: {_refusal(env_id, kwargs, error)}") from error


def _refusal(env_id: str, kwargs: dict[str, Any], error: Exception) -> str:
    """Return why EnvPool does not take these arguments, and what helps."""
    known = defaults_of(env_id)
    unknown = next((name for name in kwargs if name not in known), None)
    defaults = ", ".join(f"{name}={known[name]}" for name in kwargs if name in known)
    why = str(error).splitlines()[0] if str(error) and PYBIND not in str(error) else "a value or its type is wrong"
    if not has_alone(env_id):
        return f"EnvPool does not take these for {env_id} ({why}); use env.backend=gymnasium"
    if unknown is None:
        return f"EnvPool does not take these for {env_id} ({why}); its own are {defaults}"
    return f"EnvPool's {env_id} has no argument {unknown}{nearest(unknown, known) or '; leave it out'}"
