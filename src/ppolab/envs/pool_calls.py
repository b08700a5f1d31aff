"""Describe a pool of EnvPool to C++ code that steps it without Python.

EnvPool offers its functions `recv` and `send` to XLA as pointers, with the types and shapes of what they read and fill.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.choices import Choices, Combinations
from ppolab.envs.spaces import ActionMapping, box_placement, named_parts

SENT = ("env_id", "players.env_id", "action")
REWARD, DONE, TRUNCATED = "reward", "done", "trunc"
OBSERVED = "obs"
"""What entries of the pool's state begin with that are observations; parts of one follow after a colon."""
FIXED_TYPES = {REWARD: np.dtype(np.float32), DONE: np.dtype(np.bool_), TRUNCATED: np.dtype(np.bool_)}
NUMBERS = (np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8)
"""Types of the entries of a pool that are read as numbers."""
WHOLE_NUMBERS = (np.int32, np.int64)
"""Types in which choices are sent."""


class NotCallableError(Exception):
    """C++ cannot step a pool; the message says why, in words that follow "since"."""


@dataclass(frozen=True)
class ActionNumbers:
    """How the numbers of a policy's action [W] become those of the environment's.

    Attributes:
        dtype, shape: of the environment's action; in EnvPool, whole numbers may be of another type.
        starts: [W] of choices, which are counted from there; None where the action is numbers.
        radius, centre, low, high: [W] of numbers, in float64: `action * radius + centre`, within the bounds.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    starts: NDArray[np.int64] | None = None
    radius: NDArray[np.float64] | None = None
    centre: NDArray[np.float64] | None = None
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    @property
    def width(self) -> int:
        """W."""
        numbers = self.radius if self.starts is None else self.starts
        assert numbers is not None
        return len(numbers)


@dataclass(frozen=True)
class PoolCalls:
    """A pool's functions, and the memory that they read and fill.

    Attributes:
        receive, send: pointers to the functions. handle: address of the pool.
        state: memory [n, ...] for every entry of the pool's state, by name, in the pool's order.
        observed: names of the entries of `state` that are an observation, in the order of its numbers.
        logged: names of entries of `state`, each one number per environment.
        actions: how a policy's actions become the environments'. sent: type in which the pool takes them.
        ids: [n] int32 of all environments.
        ended: [n] bool, where an episode ended with the last step; changed by the one who steps.
        waiting: [1] seconds, since the steps began, after which the pool was last waited for; set by the one who steps.
    """

    receive: int
    send: int
    handle: int
    state: dict[str, NDArray[Any]]
    observed: tuple[str, ...]
    logged: tuple[str, ...]
    actions: ActionNumbers
    sent: np.dtype[Any]
    ids: NDArray[np.int32]
    ended: NDArray[np.bool_]
    waiting: NDArray[np.float64]

    def observations(self) -> list[NDArray[Any]]:
        """Return copies of the latest observations, part by part."""
        return [self.state[name].copy() for name in self.observed]


@dataclass(frozen=True)
class StepsTaken:
    """T steps of the n environments of a pool, in order.

    Attributes:
        observations: [T, n, D] float64, after the actions. rewards: [T, n] float64.
        terminated, truncated, valid: [T, n] bool.
        actions: [T, n, ...] as the environments took them; nobody may change them later.
    """

    observations: NDArray[np.float64]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    actions: NDArray[Any]


def pool_calls(
    pool: Any,
    num_envs: int,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    mapping: ActionMapping,
    logged: Sequence[str],
) -> PoolCalls:
    """Return what C++ needs to step `pool`.

    Args:
        action_space: what a policy chooses from. logged: entries of the pool's state, besides what every step needs.

    Raises:
        NotCallableError: it is another version of EnvPool, or has observations or actions of another kind.
    """
    if tuple(pool._spec._action_keys) != SENT or not set(FIXED_TYPES) <= set(pool._state_keys):
        raise NotCallableError("an action has several parts")
    try:
        functions = dict(pool._xla())
        (handle, (_, filled), (receive, _)), (_, (read, _), (send, _)) = functions["recv"], functions["send"]
        pointers = _pointer(receive), _pointer(send)
    except Exception as error:  # of a version without this, or of a state of changing size
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise NotCallableError(f"EnvPool does not offer its functions ({told})") from error
    state = {name: np.zeros(shape, dtype) for name, (dtype, shape) in zip(pool._state_keys, filled[1:], strict=True)}
    actions = _action_numbers(action_space, mapping)
    observed = tuple(
        f"{OBSERVED}:{name.replace('.', ':')}" if name else OBSERVED for name, _ in named_parts(observation_space)
    )
    _check_state(state, num_envs, observed, logged)
    return PoolCalls(
        *pointers, int.from_bytes(handle, sys.byteorder), state, observed, tuple(logged), actions,
        _type_of_sent(read[1:], actions, num_envs),
        np.arange(num_envs, dtype=np.int32), np.zeros(num_envs, dtype=np.bool_), np.zeros(1),
    )  # fmt: skip


def _pointer(capsule: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(capsule, None))


def _type_of_sent(read: Sequence[Any], actions: ActionNumbers, num_envs: int) -> np.dtype[Any]:
    """Return the type of the pool's actions; NotCallableError unless it reads what is sent to it."""
    kind: np.dtype[Any]
    *ids, (kind, shape) = [(np.dtype(dtype), tuple(shape)) for dtype, shape in read]
    same = kind == actions.dtype or (actions.starts is not None and kind in WHOLE_NUMBERS)
    if ids != [(np.dtype(np.int32), (num_envs,))] * 2 or not same or shape != (num_envs, *actions.shape):
        raise NotCallableError(f"EnvPool takes actions of type {kind} and shape {shape}")
    return kind


def _check_state(state: dict[str, NDArray[Any]], num_envs: int, observed: Sequence[str], logged: Sequence[str]) -> None:
    """Raise NotCallableError unless the entries are such as the C++ code reads."""
    for name, dtype in FIXED_TYPES.items():
        if state[name].dtype != dtype or state[name].shape != (num_envs,):
            raise NotCallableError(f"EnvPool's {name} is of type {state[name].dtype}, shape {state[name].shape}")
    if set(observed) != {name for name in state if name.partition(":")[0] == OBSERVED}:
        raise NotCallableError("EnvPool's observation has other parts than its space says")
    if any(state[name].dtype not in (np.float32, np.float64) or len(state[name]) != num_envs for name in observed):
        raise NotCallableError("the observation does not consist of floating-point numbers")
    for name in logged:
        if state[name].dtype not in NUMBERS or state[name].size != num_envs:
            raise NotCallableError(f"EnvPool's {name} is not one number per environment")


def _action_numbers(space: spaces.Space[Any], mapping: ActionMapping) -> ActionNumbers:
    """Return how `ppolab.envs.spaces.action_decoder` makes actions of `space`; NotCallableError where not like this."""
    if isinstance(space, Choices):
        return ActionNumbers(
            np.dtype(space.environments.dtype), tuple(space.environments.shape), space.lowest.astype(np.int64)
        )
    if isinstance(space, spaces.Discrete) and not isinstance(space, Combinations):
        return ActionNumbers(np.dtype(space.dtype), (), np.array([space.start], dtype=np.int64))
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return ActionNumbers(np.dtype(space.dtype), tuple(space.shape), space.start.astype(np.int64))
    if not isinstance(space, spaces.Box) or mapping.squash:
        raise NotCallableError("the actions are of a kind that C++ does not know")
    place = box_placement(space, mapping)
    if place.integers or space.dtype not in (np.float32, np.float64):
        raise NotCallableError("the actions are of a kind that C++ does not know")
    numbers = [np.ascontiguousarray(each, np.float64) for each in (place.radius, place.centre, place.low, place.high)]
    return ActionNumbers(np.dtype(space.dtype), tuple(space.shape), None, *numbers)
