"""A wrapper around a user's environment: every fault becomes one line that names the environment and its step."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.action_masks import (
    ENTRY,
    FIX,
    INFO_NAMES,
    METHOD,
    OBSERVED,
    OFF,
    Flags,
    chosen_space,
    flags_of,
    has_entry,
    is_observed,
    late_mask,
)
from ppolab.envs.choices import choice_sizes
from ppolab.envs.pool_making import EnvPoolAlone
from ppolab.envs.seeding import global_generator_states, restore_global_generators, seed_global_generators
from ppolab.envs.snapshot import State, captured, restore
from ppolab.errors import ConfigError, EnvError, nearest

MAKING, RESETTING = 0, 1
"""Streams of an environment's seed for the global generators of its process."""
NUMBERS = (float, int, np.floating, np.integer, np.bool_)
INFO, MASK, GAME = "ppolab", "ppolab_mask", "ppolab_game"
"""The keys of the info that reach a vector environment: what `log_info` names, the mask of actions, and of a game what
it scored, and whether it is over.
"""
PACKAGES = ("site-packages", "dist-packages")
"""Folders of installed packages."""


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks what an environment returns, and captures and restores its state.

    `info` is dropped, since a vector environment would join the infos of all environments into arrays, which fails
    where they differ in kind or shape. Of the entries `log_info`, the last values in the episode are handed on at
    its end. A mask of actions that is no entry of the observation is handed on with every observation; what a game
    itself gave, with every step, where the learner sees other rewards or ends.

    Args:
        masked: look for such a mask, at the first reset.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        env_id: str,
        index: int,
        log_info: Sequence[str] = (),
        *,
        masked: bool = False,
    ) -> None:
        super().__init__(env)
        self._looks_for_mask = masked and not has_entry(env.observation_space)
        self._mask_source = ""  # an entry of the info, or METHOD
        self._knows_no_mask = False  # after a reset without one, where actions could be masked
        self._log_info = tuple(log_info)
        self._info = np.full(len(log_info), np.nan)
        self._first_episode = True
        self._name = f"{env_id}: environment {index}"
        self._index = index
        self._steps = 0
        self._ended = False
        alone = env.unwrapped
        self._alone = alone if isinstance(alone, EnvPoolAlone) and alone.tells_game else None
        self._game_over = False

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Raises:
            EnvError: the environment raised, or its observation does not fit its space.
        """
        try:
            observation, info = self.env.reset(**kwargs)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised at a reset after {self._steps} steps", error) from error
        self._check_info(info)
        self._ended = False
        if self._log_info:
            self._info[:] = np.nan
            self._read(info)
        if self._looks_for_mask:
            self._mask_source, self._looks_for_mask = self._place_of_mask(info), False
            self._knows_no_mask = not self._mask_source and bool(choice_sizes(self.action_space))
        return self._checked(observation), self._with_mask({}, info)

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
            observation, reward, terminated, truncated, info = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised at its step {self._steps}", error) from error
        self._check_info(info)
        terminated = self._flag(terminated, "terminated")
        truncated = self._flag(truncated, "truncated")
        self._ended = terminated or truncated
        handed_on = self._handed_on(info) if self._log_info else {}
        if self._alone is not None:
            handed_on = {**handed_on, GAME: self._game(self._alone)}
        if self._mask_source:
            handed_on = self._with_mask(handed_on, info)
        elif self._knows_no_mask and (problem := late_mask(info)):
            raise EnvError(f"{self._name}, at its step {self._steps}, {problem}")
        return self._checked(observation), self._number(reward), terminated, truncated, handed_on

    def tells_game(self) -> bool:
        """Return whether the info has `GAME`."""
        return self._alone is not None

    def longest_episode(self) -> int | None:
        """Return the number of steps after which a time limit truncates an episode; None without one."""
        layer, limits = self.env, []
        while isinstance(layer, gymnasium.Wrapper):
            if isinstance(layer, gymnasium.wrappers.TimeLimit):
                limits.append(int(layer._max_episode_steps))
            layer = layer.env
        return min(limits, default=None)

    def mask_found(self) -> str:
        """Return where a mask of actions was found, whether the actions can be masked or not; empty without one."""
        in_info = f"info['{self._mask_source}']"
        return "the method action_masks()" if self._mask_source == METHOD else self._mask_source and in_info

    def captured(self) -> State | None:
        """Return the environment's state, see `ppolab.envs.snapshot`."""
        return captured(self)

    def restored(self, states: Sequence[State]) -> None:
        """Take the state that is at this environment's place in `states`."""
        restore(self, states[self._index])

    def _game(self, alone: EnvPoolAlone) -> NDArray[np.float64]:
        """Return (score of this step, whether the game ended with it); only where an episode ends a game does."""
        scored, over = alone.taken_game()
        self._game_over |= over
        ends = self._ended and (self._game_over or not alone.goes_on)
        self._game_over &= not ends
        return np.array([scored, ends], dtype=np.float64)

    def _handed_on(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the info of a step: at an episode's end [K], else nothing."""
        self._read(info)
        if not self._ended:
            return {}
        if self._first_episode and np.isnan(self._info).any():
            missing = self._log_info[int(np.isnan(self._info).argmax())]
            raise ConfigError(unknown_info(missing, info))
        self._first_episode = False
        return {INFO: self._info.copy()}

    def _place_of_mask(self, info: dict[str, Any]) -> str:
        in_info = next((name for name in INFO_NAMES if name in info), "")
        if in_info or not self.env.has_wrapper_attr(METHOD):
            return in_info
        if not callable(self.env.get_wrapper_attr(METHOD)):
            raise EnvError(f"{self._name} has {METHOD}, which is no method; make it one without arguments, or {OFF}")
        return METHOD

    def _with_mask(self, handed_on: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        """Return what is handed on with the mask [A] of the next action, if there is one."""
        if not self._mask_source or not choice_sizes(self.action_space):
            return handed_on
        return {**handed_on, MASK: self._mask(info)}

    def _mask(self, info: dict[str, Any]) -> Flags:
        """Return the mask [A]; at an episode's end, where the next action only resets, it need not be there."""
        if self._mask_source == METHOD:
            mask = None if self._ended else self._answer_of_method()
        else:
            mask = info.get(self._mask_source)
        if self._ended and mask is None:
            return np.ones(sum(choice_sizes(self.action_space)), dtype=np.bool_)
        if mask is None:
            raise EnvError(f"{self._name} gave no mask in {self.mask_found()}, at its step {self._steps}; {FIX}")
        try:
            return flags_of(mask, self.action_space)
        except ValueError as error:
            raise EnvError(f"{self._name} gave {self.mask_found()} {error}, at its step {self._steps}; {FIX}") from None

    def _answer_of_method(self) -> Any:
        try:
            return self.env.get_wrapper_attr(METHOD)()
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised in {METHOD}() after its step {self._steps}", error) from error

    def _read(self, info: dict[str, Any]) -> None:
        for index, name in enumerate(self._log_info):
            value = info.get(name)
            if value is None:
                continue
            if not isinstance(value, NUMBERS) and (np.size(value) != 1 or np.asarray(value).dtype.kind not in "biuf"):
                raise self._wrong(f"info['{name}']", "that is no single number; leave it out of env.log_info")
            self._info[index] = float(np.asarray(value).reshape(()))

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

    def _check_info(self, info: object) -> None:
        if not isinstance(info, dict):
            problem = f"returned an info of type {type(info).__name__}, not a dictionary, at its step {self._steps}"
            raise EnvError(f"{self._name} {problem}")

    def _wrong(self, what: str, problem: str) -> EnvError:
        return EnvError(f"{self._name} returned a {what} {problem}, at its step {self._steps}")

    def _fault(self, when: str, error: BaseException) -> EnvError:
        """Return an error with one line, and the traceback as a note, which also reaches another process."""
        place = _place(error, type(self.env.unwrapped))
        layer = _wrapper_at_fault(error, self.env)
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        fault = EnvError(f"{self._name} {when}{layer}: {told}" + (f" ({place})" if place else ""))
        fault.add_note("".join(traceback.format_exception(error)).rstrip())
        return fault


def mask_with(observation: Any, info: dict[str, Any], env: Guarded) -> Flags | None:
    """Return the mask [A] of the action that follows an observation and an info of `env`; None without one."""
    if is_observed(env.observation_space, env.action_space):
        try:
            return flags_of(observation[ENTRY], chosen_space(env.observation_space, env.action_space))
        except ValueError as error:
            raise EnvError(f"the environment gave {OBSERVED} {error}; {FIX}") from None
    mask: Flags | None = info.get(MASK)
    return mask


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


def unknown_info(name: str, known: Iterable[str]) -> str:
    """Return a line about an entry of `env.log_info` that an environment's info does not have."""
    names = sorted(str(each) for each in known)
    there = f"there are {', '.join(names)}" if names else "its info is empty"
    return (
        f"env.log_info=[{name}]: the environment's info has no such entry by the end of its first episode; {there}"
        f"{nearest(name, names)}"
    )


def _wrapper_at_fault(error: BaseException, env: gymnasium.Env[Any, Any]) -> str:
    """Return " in NAME" where the innermost layer that an error came through is a wrapper of the user's, else ""."""
    layers, at_fault = [env], None
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        at_fault = next((layer for layer in layers if layer is owner), at_fault)
    users = isinstance(at_fault, gymnasium.Wrapper) and not type(at_fault).__module__.startswith("gymnasium.")
    return f" in {type(at_fault).__name__}" if users else ""


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
    if not np.issubdtype(conformed.dtype, np.floating) and (changed := conformed != array).any():
        raise _Unfit(f"with {np.extract(changed, array)[0]}, which does not fit its type", space.dtype)
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
