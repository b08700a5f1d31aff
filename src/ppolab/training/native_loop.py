"""Collect a rollout from EnvPool's environments in one call of C++ code."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.pool_calls import DONE, REWARD, TRUNCATED, NotCallableError, PoolCalls, StepsTaken
from ppolab.envs.vector_env import VectorEnv
from ppolab.learning.actor import Actor
from ppolab.learning.native import NativePolicy
from ppolab.learning.native.structures import (
    NativeCollected,
    NativeColumn,
    NativeFault,
    NativeGroup,
    NativePart,
    NativePlacement,
    NativeRemembered,
)
from ppolab.learning.normalization import FrozenScaling
from ppolab.training.acting import LoopMemory
from ppolab.training.steps import Steps

TYPES = {"float32": 0, "float64": 1, "int32": 2, "int64": 3, "uint8": 4, "bool": 4}
"""Types of numbers, by the codes of collecting.hpp."""
TIMES = ("asked", "answered", "sent")
"""What is timed of a step: a pool is asked for it, it has answered, and the next actions are sent."""

Group = tuple[slice, EnvPoolEnv]


def native_loop(before: NativeLoop | None, native: Actor | None, env: VectorEnv) -> NativeLoop | None:
    """Return a loop that collects from `env` with `native`: `before`, where it still can. None where Python must.

    Raises:
        NotCallableError: only EnvPool or its environments are the reason why Python must.
    """
    groups = [(rows, group) for rows, group in env.groups if isinstance(group, EnvPoolEnv)]
    if not isinstance(native, NativePolicy) or not groups:
        return None
    if env.masks is not None:
        raise NotCallableError("actions are masked")
    if before is not None and before.serves(native, groups):
        return before
    return NativeLoop(native, groups)


class NativeLoop:
    """Collect as `Collector._run` does, without Python between two steps.

    Args:
        groups: of environments, with their rows.

    Raises:
        NotCallableError: C++ cannot step these environments.
    """

    def __init__(self, native: NativePolicy, groups: Sequence[Group]) -> None:
        self._native = native
        self.groups = groups
        self._calls = [group.calls() for _, group in groups]
        library = native.library
        for function in (pointer for calls in self._calls for pointer in (calls.receive, calls.send)):
            if problem := library.ppo_problem_of_pool(function):
                raise NotCallableError(f"EnvPool's functions are not those that C++ knows: {problem.decode()}")
        self._columns = _columns(self._calls[0])
        placement, self._read_by_placement = _placement(self._calls[0])
        described = [_group(rows.start, calls) for (rows, _), calls in zip(groups, self._calls, strict=True)]
        self._read_by_groups = [kept for _, kept in described]
        array = (NativeGroup * len(groups))(*[group for group, _ in described])
        self._handle = library.ppo_loop_create(native.handle, array, len(groups), ctypes.byref(placement))
        weakref.finalize(self, library.ppo_loop_destroy, self._handle)

    def serves(self, native: NativePolicy, groups: Sequence[Group]) -> bool:
        """Return whether this is a loop for these environments, which may have been made anew."""
        same = len(groups) == len(self._calls) and all(
            group.calls() is calls for (_, group), calls in zip(groups, self._calls, strict=True)
        )
        return same and native is self._native

    def run(
        self,
        steps: Steps,
        scaling: FrozenScaling,
        noise: Tensor,
        action_shape: tuple[int, ...],
        memory: LoopMemory | None = None,
        *,
        times: NDArray[np.float64] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fill `steps`, whose first observations are there; return as `Collector._run` does.

        The last row of the scaled observations is left to fill.

        Args:
            noise: [T, N, ...]. action_shape: of a policy's action. memory: of a policy that has one.
            times: [T+1, groups, 3] to be filled with seconds since the start, see `TIMES`.

        Raises:
            EnvError: a number is not finite.
        """
        assert isinstance(steps.observations, np.ndarray)
        numbers = self._calls[0].actions.starts is None
        shape = steps.rewards.shape
        scaled = torch.empty(steps.observations.shape)
        actions = torch.empty((*shape, *action_shape), dtype=torch.float32 if numbers else torch.int64)
        sent = [np.empty((shape[0], len(each.ids), *each.actions.shape), each.sent) for each in self._calls]
        places = _pointers([each.ctypes.data for each in sent])
        states = _pointers([] if memory is None else [each.data_ptr() for each in memory.states])
        remembered = None if memory is None else _remembered(memory, states)
        collected = NativeCollected(
            steps=shape[0], environments=shape[1], inputs=scaled.shape[-1], limit=scaling.limit,
            noise=noise.data_ptr(), noise_width=noise[0, 0].numel(), scaled=scaled.data_ptr(),
            actions=actions.data_ptr(), action_bytes=actions[0, 0].numel() * actions.element_size(),
            columns=len(self._columns), info_columns=ctypes.addressof(self._columns), sent=ctypes.addressof(places),
            times=None if times is None else times.ctypes.data,
            memory=None if remembered is None else ctypes.addressof(remembered),
            **{name: array.ctypes.data for name, array in _arrays(steps, scaling)},
        )  # fmt: skip
        for _, group in self.groups:
            group.begin_calls()
        fault = NativeFault()
        self._native.library.ppo_loop_run(
            self._handle, self._native.vector.data_ptr(), ctypes.byref(collected), ctypes.byref(fault)
        )
        self._check(fault, steps.valid)
        for (rows, group), taken in zip(self.groups, sent, strict=True):
            group.end_calls(_taken(steps, rows, taken))
        return scaled, actions

    def _check(self, fault: NativeFault, valid: NDArray[np.bool_]) -> None:
        if fault.group < 0:
            return
        if fault.message:
            raise RuntimeError(f"a call of EnvPool failed: {fault.message.decode()}")
        rows, group = self.groups[fault.group]
        group.raise_fault(valid[: fault.step, rows])


def _remembered(memory: LoopMemory, states: ctypes.Array[ctypes.c_void_p]) -> NativeRemembered:
    """Return pointers into `memory`, which must outlive them, as must the array of those to its `states`."""
    assert all(state.is_contiguous() for state in memory.states)
    rows, _, size = memory.states[0].shape
    return NativeRemembered(
        states=ctypes.addressof(states), rows=rows, size=size, kept=memory.kept.data_ptr(), length=memory.length,
        outputs=memory.outputs.data_ptr(), values=memory.values.data_ptr(),
    )  # fmt: skip


def _arrays(steps: Steps, scaling: FrozenScaling) -> Iterable[tuple[str, NDArray[Any]]]:
    """Return the arrays of `NativeCollected` by name."""
    assert isinstance(steps.observations, np.ndarray)
    arrays = {
        "observations": steps.observations, "rewards": steps.rewards, "terminated": steps.terminated,
        "truncated": steps.truncated, "valid": steps.valid, "info": steps.info,
        "mean": scaling.mean, "inverse_std": scaling.inverse_std,
    }  # fmt: skip
    assert all(array.flags.c_contiguous for array in arrays.values())
    return arrays.items()


def _taken(steps: Steps, rows: slice, actions: NDArray[Any]) -> StepsTaken:
    assert isinstance(steps.observations, np.ndarray)
    return StepsTaken(
        steps.observations[1:, rows], steps.rewards[:, rows], steps.terminated[:, rows], steps.truncated[:, rows],
        steps.valid[:, rows], actions,
    )  # fmt: skip


def _columns(calls: PoolCalls) -> ctypes.Array[NativeColumn]:
    """Return where the logged numbers are."""
    names = list(calls.state)
    columns = [NativeColumn(names.index(name), TYPES[calls.state[name].dtype.name]) for name in calls.logged]
    return (NativeColumn * len(columns))(*columns)


def _placement(calls: PoolCalls) -> tuple[NativePlacement, list[NDArray[Any]]]:
    """Return how actions are placed, and the arrays that it points to."""
    actions = calls.actions
    arrays = {name: getattr(actions, name) for name in ("starts", "radius", "centre", "low", "high")}
    given = {name: array for name, array in arrays.items() if array is not None}
    pointers = {name: array.ctypes.data for name, array in given.items()}
    return NativePlacement(width=actions.width, type=TYPES[calls.sent.name], **pointers), list(given.values())


def _group(first: int, calls: PoolCalls) -> tuple[NativeGroup, Any]:
    """Return the structure of a pool whose rows begin at `first`, and what it points to besides `calls`."""
    names, state = list(calls.state), _pointers([entry.ctypes.data for entry in calls.state.values()])
    entries = [(name, calls.state[name]) for name in calls.observed]
    parts = (NativePart * len(entries))(
        *[NativePart(names.index(name), TYPES[entry.dtype.name], entry[0].size) for name, entry in entries]
    )
    group = NativeGroup(
        receive=calls.receive, send=calls.send, handle=calls.handle, first=first, count=len(calls.ids),
        state=ctypes.addressof(state), entries=len(names),
        parts=ctypes.addressof(parts), part_count=len(parts),
        reward=names.index(REWARD), done=names.index(DONE), truncated=names.index(TRUNCATED),
        ids=calls.ids.ctypes.data, ended=calls.ended.ctypes.data, waiting=calls.waiting.ctypes.data,
    )  # fmt: skip
    return group, (state, parts)


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)
