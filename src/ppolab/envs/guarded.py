"""A wrapper around a user's environment: every fault becomes one line that names the environment and its step."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from ppolab.envs.seeding import global_generator_states, restore_global_generators, seed_global_generators
from ppolab.envs.snapshot import State, captured, restore
from ppolab.errors import EnvError

MAKING, RESETTING = 0, 1
"""Streams of an environment's seed for the global generators of its process."""
NUMBERS = (float, int, np.floating, np.integer, np.bool_)
PACKAGES = ("site-packages", "dist-packages")
"""Folders of installed packages."""


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks what an environment returns, and captures and restores its state.

    `info` is dropped: nothing reads it, and a vector environment would join the infos of all environments into arrays,
    which fails where they differ in kind or shape.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str, index: int) -> None:
        super().__init__(env)
        self._name = f"{env_id}: environment {index}"
        self._index = index
        self._steps = 0
        self._ended = False

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Raises:
            EnvError: the environment raised, or its observation does not fit its space.
        """
        try:
            observation, _ = self.env.reset(**kwargs)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised at a reset after {self._steps} steps", error) from error
        self._ended = False
        return self._checked(observation), {}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; after a restored episode's end it only resets, which the vector environment cannot know.

        Raises:
            EnvError: the environment raised, or returned something it must not.
        """
        if self._ended:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self._steps += 1
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised at its step {self._steps}", error) from error
        terminated = self._flag(terminated, "terminated")
        truncated = self._flag(truncated, "truncated")
        self._ended = terminated or truncated
        return self._checked(observation), self._number(reward), terminated, truncated, {}

    def captured(self) -> State | None:
        """Return the environment's state, see `ppolab.envs.snapshot`."""
        return captured(self)

    def restored(self, states: Sequence[State]) -> None:
        """Take the state that is at this environment's place in `states`."""
        restore(self, states[self._index])

    def _checked(self, observation: Any) -> Any:
        space = self.env.observation_space
        if type(observation) is np.ndarray and observation.dtype == space.dtype and observation.shape == space.shape:
            return observation
        try:
            return _conformed(observation, space)
        except _Unfit as unfit:
            raise EnvError(
                f"{self._name} returned an observation {unfit.what} at its step {self._steps}, but its observation "
                f"space says {unfit.declared}"
            ) from None

    def _number(self, reward: Any) -> float:
        if not isinstance(reward, NUMBERS) and _shape(reward) != ():
            raise self._wrong("reward", f"of shape {_shape(reward)}, not a number")
        try:
            if not isinstance(reward, str | bytes):
                return float(reward)
        except (TypeError, ValueError, OverflowError):
            pass
        raise self._wrong("reward", f"of type {type(reward).__name__}, not a number")

    def _flag(self, value: Any, name: str) -> bool:
        if type(value) is bool:
            return value
        if _shape(value) != ():
            raise self._wrong(f"value for {name}", f"of shape {_shape(value)}, not true or false")
        return bool(value)

    def _wrong(self, what: str, problem: str) -> EnvError:
        return EnvError(f"{self._name} returned a {what} {problem}, at its step {self._steps}")

    def _fault(self, when: str, error: BaseException) -> EnvError:
        """Return an error with one line, and the traceback as a note, which also reaches another process."""
        place = _place(error, type(self.env.unwrapped))
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        fault = EnvError(f"{self._name} {when}: {told}" + (f" ({place})" if place else ""))
        fault.add_note("".join(traceback.format_exception(error)).rstrip())
        return fault


class GuardedAlone(Guarded):
    """The same in a worker process, whose global generators are this environment's and part of its state."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode; a seed is also one for the global generators."""
        if kwargs.get("seed") is not None:
            seed_global_generators(kwargs["seed"], RESETTING)
        return super().reset(**kwargs)

    def captured(self) -> State | None:
        """Return the environment's state with that of the process's global generators."""
        state = super().captured()
        return None if state is None else {**state, "generators": global_generator_states()}

    def restored(self, states: Sequence[State]) -> None:
        """Take the state that is at this environment's place in `states`."""
        super().restored(states)
        state = states[self._index]
        if "generators" in state:  # not where the state is of an environment that shared its process
            restore_global_generators(state["generators"])


class _Unfit(Exception):
    """An observation does not lie in its space: `what` it is, and what the space has `declared`."""

    def __init__(self, what: str, declared: object) -> None:
        super().__init__(what)
        self.what, self.declared = what, declared


def _conformed(value: Any, space: spaces.Space[Any]) -> Any:
    """Return `value` in the shape and type that `space` declares.

    Raises:
        _Unfit: it has another structure or shape, or the conversion would change it.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict):
            raise _Unfit(f"of type {type(value).__name__}", "a dictionary")
        if not set(space.spaces) <= set(value):
            raise _Unfit(f"with the keys {list(value)}", list(space.spaces))
        return {key: _conformed(value[key], part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not (isinstance(value, tuple | list) and len(value) == len(space.spaces)):
            found = f"of length {len(value)}" if isinstance(value, tuple | list) else f"of type {type(value).__name__}"
            raise _Unfit(found, f"a tuple of {len(space.spaces)}")
        return tuple(_conformed(item, part) for item, part in zip(value, space.spaces, strict=True))
    return _conformed_array(value, space)


def _conformed_array(value: Any, space: spaces.Space[Any]) -> Any:
    if _shape(value) != space.shape:
        raise _Unfit(f"of shape {_shape(value)}", space.shape)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise _Unfit(f"of type {type(value).__name__ if array.dtype.kind == 'O' else array.dtype}", space.dtype)
    with np.errstate(all="ignore"):  # a number too large for the declared type becomes infinite, and is refused later
        conformed = array.astype(space.dtype)
    if not np.issubdtype(conformed.dtype, np.floating) and (conformed != array).any():
        raise _Unfit(f"with values that do not fit its type: {array.tolist()}", space.dtype)
    return conformed[()]


def _shape(value: Any) -> tuple[int, ...] | str:
    try:
        return tuple(np.shape(value))
    except ValueError:
        return "(rows of different lengths)"


def _place(error: BaseException, environment: type) -> str:
    """Return file and line of the last frame in the user's code, or an empty string where there is none."""
    own = Path(getattr(sys.modules.get(environment.__module__), "__file__", None) or "")
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    users = [frame for frame in frames if frame[0] == own or _is_users(frame[0])]
    return f"{users[-1][0].name}:{users[-1][1]}" if users else ""


def _is_users(path: Path) -> bool:
    library, here = Path(traceback.__file__).parent, Path(__file__).parents[1]
    installed = any(part in PACKAGES for part in path.parts)
    return path.is_file() and not (installed or path.is_relative_to(library) or path.is_relative_to(here))
