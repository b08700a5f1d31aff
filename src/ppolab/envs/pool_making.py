"""Make pools of EnvPool, and one of their environments alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs import families
from ppolab.envs.envpool_ids import defaults_of, family_of, game_info, has_alone, package
from ppolab.envs.envpool_import import quiet
from ppolab.envs.envpool_tasks import OVER, SCORED
from ppolab.envs.rendering import share_envpools_opengl
from ppolab.envs.spaces import first_of
from ppolab.errors import ConfigError, nearest

PYBIND = "incompatible constructor arguments"
"""Of the message of EnvPool's binding to C++, whose many lines hold all arguments."""
MAX_SEED = 2**31
"""EnvPool's seeds lie below it."""
PICTURES_PER_SECOND = 15.0
"""EnvPool does not tell how many steps are a second; of Atari it is so many, of four frames each."""


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
    if isinstance(observations, spaces.Dict) and COUNTED in observations.spaces:
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

    EnvPool takes a seed only when it makes an environment, so a reset with one makes another. A reset after an end is
    the pool's own, on its next step, as in `EnvPoolEnv`: one that it is asked for begins a new game even after a lost
    life.

    Attributes:
        tells_game: rewards and ends of a step are not those of the game, which `taken_game` then tells.
        goes_on: the next reset goes on with the game, of which only a life is lost.

    Raises:
        ConfigError: see `made_pool`.
    """

    def __init__(self, env_id: str, kwargs: dict[str, Any]) -> None:
        self.render_mode = kwargs.get("render_mode")
        self._make = partial(made_pool, env_id, kwargs, num_threads=1)
        self._cannot_draw = families.cannot_draw(family_of(env_id))
        modes = [] if self._cannot_draw else ["rgb_array"]
        self.metadata = {"render_modes": modes, "render_fps": PICTURES_PER_SECOND}
        self._pool = self._make([0])
        with quiet():
            self.observation_space, self.action_space = spaces_of_pool(self._pool)
        self.tells_game = bool(game_info(self._pool))
        self.goes_on = False
        self._score, self._over = 0.0, False
        self._last_actions: NDArray[Any] | None = None  # [1, ...], those of a step that ended an episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._pool.close()
            self._pool = self._make([seed % MAX_SEED])
            self._score, self._over, self._last_actions = 0.0, False, None
        self.goes_on = False
        with quiet():
            if self._last_actions is None:
                observations, info = self._pool.reset()
            else:
                observations, _, _, _, info = self._pool.step(self._last_actions)
                self._last_actions = None
        return first_of(observations), first_of(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        actions = np.asarray(action)[None]
        observations, rewards, terminated, truncated, infos = self._pool.step(actions)
        self._last_actions = actions if terminated[0] or truncated[0] else None
        info = first_of(infos)
        if self.tells_game:
            scored, over = float(info[SCORED]), bool(info[OVER]) or bool(truncated[0])
            self._score += scored
            self._over |= over
            self.goes_on = bool(terminated[0]) and not over
        return first_of(observations), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def taken_game(self) -> tuple[float, bool]:
        """Return what the game scored since the last call, and whether it has ended.

        A wrapper may have taken several steps, or one whose reward and end it hides.
        """
        taken, self._score, self._over = (self._score, self._over), 0.0, False
        return taken

    def render(self) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3]; the environment must have been made with `render_mode="rgb_array"`.

        Raises:
            NotImplementedError: EnvPool has none.
        """
        if self._cannot_draw:
            raise NotImplementedError(self._cannot_draw)
        picture: NDArray[np.uint8] = self._pool.render()[0]
        return picture

    def close(self) -> None:
        """Free the simulator."""
        self._pool.close()


def made_pool(env_id: str, kwargs: dict[str, Any], seeds: Sequence[int], *, num_threads: int) -> Any:
    """Return a pool with an environment for each seed.

    Raises:
        ConfigError: EnvPool does not take these arguments, or cannot start this task; or it has several players.
    """
    num_envs = len(seeds)
    if (players := defaults_of(env_id)["max_num_players"]) > 1:
        raise ConfigError(
            f"env.id={env_id}: is a game of {players} players, and ppolab trains one that plays alone; choose another "
            "environment"
        )
    if why := families.cannot_start(family_of(env_id), env_id):
        raise ConfigError(f"env.id={env_id}: {why}; choose another environment")
    if kwargs.get("render_mode"):
        share_envpools_opengl()
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
