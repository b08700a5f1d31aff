"""State of an environment of mjlab's: what its simulation and its managers keep from one step to the next.

mjlab has no function for it. So every number, text and tensor is taken that can be reached from the environment through
objects, lists and dictionaries, and is set again in an environment that was made in the same way. What the simulator
derives from positions and velocities is computed again. An attribute of a kind that is not known here may hide a state;
an environment that has one gives none.
"""

from __future__ import annotations

import enum
import functools
import json
import pathlib
import re
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppolab.envs.snapshot import NoState
from ppolab.errors import StateNotReached

SIMULATED = (
    "qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied", "eq_active", "mocap_pos", "mocap_quat", "history",
    "time",
)  # fmt: skip
"""What a step of the simulator begins with."""
GUESS = "qacc_warmstart"
"""The solver's first guess, which is overwritten where what follows from the positions is computed."""
PLAIN = "env.plain"
"""The entry that holds all values that are no tensors, as JSON."""
LEFT_OUT = (
    "sim", "extras", "obs_buf", "reward_buf", "reset_buf", "reset_terminated", "reset_time_outs", "manager_visualizers",
)  # fmt: skip
"""Attributes of the environment that each step computes anew, or that are taken apart."""
REMADE = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type, enum.Enum,
    functools.partial, pathlib.Path, re.Pattern, torch.dtype, torch.device, slice, set, frozenset,
)  # fmt: skip
REMADE_OF = ("warp", "mujoco", "mujoco_warp", "mjlab.sim", "mjlab.viewer", "mjlab.terrains.terrain_generator")
"""Packages whose objects come with a new environment."""


@dataclass(frozen=True)
class Leaf:
    """A tensor or a plain value, and the object, list or dictionary that holds it under `key`."""

    holder: Any
    key: Any
    value: Any

    def put(self, value: Any) -> None:
        """Let the holder have another value; tensors keep their memory, which others may share."""
        if isinstance(self.value, Tensor) and isinstance(value, Tensor) and self.value.shape == value.shape:
            self.value.copy_(value)
            return
        if isinstance(self.value, tuple):
            value = tuple(value)
        if isinstance(self.holder, list | dict | deque):
            self.holder[self.key] = value
        else:
            setattr(self.holder, self.key, value)


def captured(env: Any) -> dict[str, Tensor]:
    """Return copies, on the CPU, of all that `restore` needs.

    Raises:
        NoState: something may hide a state.
    """
    found = {path: leaf.value for path, leaf in _leaves(env)}
    plain = {path: value for path, value in found.items() if not isinstance(value, Tensor)}
    tensors = {path: value.detach().cpu().clone() for path, value in found.items() if isinstance(value, Tensor)}
    written = np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)
    return {**tensors, PLAIN: torch.from_numpy(written.copy())}


def restore(env: Any, state: Mapping[str, Tensor]) -> None:
    """Bring an environment, made in the same way and reset once, into the captured state.

    Raises:
        StateNotReached: the state is of an environment that consists of something else.
    """
    plain = json.loads(state[PLAIN].numpy().tobytes().decode())
    leaves = dict(_leaves(env))
    known = {**state, **plain}
    if missing := set(leaves) ^ (set(known) - {PLAIN}):
        raise StateNotReached(
            f"{min(missing)} is not in both the checkpoint and mjlab's environment, which may be of another version"
        )
    for path, leaf in leaves.items():
        leaf.put(known[path].to(env.device) if isinstance(known[path], Tensor) else known[path])
    env.sim.forward()
    env.sim.sense()
    getattr(env.sim.data, GUESS)[:] = state[f"env.sim.data.{GUESS}"].to(env.device)


def _leaves(env: Any) -> Iterator[tuple[str, Leaf]]:
    for name in (*SIMULATED, GUESS):
        if 0 not in getattr(env.sim.wp_data, name).shape:  # of an empty one mjlab makes no tensor on a processor
            yield f"env.sim.data.{name}", Leaf(env.sim.data, name, getattr(env.sim.data, name)[:])
    for name in sorted(env.sim.expanded_fields):
        yield f"env.sim.model.{name}", Leaf(env.sim.model, name, getattr(env.sim.model, name)[:])
    seen = {id(env)}
    for name, value in vars(env).items():
        if name not in LEFT_OUT:
            yield from _walked(f"env.{name}", Leaf(env, name, value), seen)


def _walked(path: str, leaf: Leaf, seen: set[int]) -> Iterator[tuple[str, Leaf]]:
    """Return the leaves that can be reached from a value."""
    value = leaf.value
    if isinstance(value, Tensor) or _is_plain(value):
        yield path, leaf
        return
    if isinstance(value, REMADE) or _is_remade(value) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "iufb":
            yield path, Leaf(leaf.holder, leaf.key, torch.from_numpy(value))
        return
    for key, inner in _parts(path, value):
        yield from _walked(f"{path}.{key}", Leaf(value, key, inner), seen)


def _parts(path: str, value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple | deque):
        return list(enumerate(value))
    if hasattr(value, "__dict__"):
        return list(vars(value).items())
    raise NoState(f"{path} is a {type(value).__name__}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _is_remade(value: Any) -> bool:
    module = type(value).__module__
    return any(module == each or module.startswith(f"{each}.") for each in REMADE_OF)
