"""Vector environments in EnvPool's C++ threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ppolab.envs import families
from ppolab.envs.action_masks import ENTRY, INFO_NAMES, is_observed
from ppolab.envs.choices import choice_sizes
from ppolab.envs.envpool_ids import (
    INFO_KEYS,
    STACKS,
    family_of,
    game_info,
    stacks_itself,
)
from ppolab.envs.envpool_import import quiet
from ppolab.envs.envpool_tasks import FinalRows, end_condition
from ppolab.envs.frame_stack import FrameStack
from ppolab.envs.guarded import unknown_info
from ppolab.envs.pool_calls import REWARD, NotCallableError, PoolCalls, StepsTaken, pool_calls
from ppolab.envs.pool_lines import DirectLine, PublicLine
from ppolab.envs.pool_making import PICTURES_PER_SECOND, made_pool, spaces_of_pool
from ppolab.envs.replay import ActionRecord, replay
from ppolab.envs.snapshot import State
from ppolab.envs.spaces import ActionMapping, of_parts
from ppolab.envs.vector_env import BackendEnv, Begun, Game, Received
from ppolab.errors import ConfigError, StateNotReached
from ppolab.runtime.memory import return_free_memory

RANDOM_AT_RESETS_ONLY = ("mujoco.gym", "classic_control")
"""Families whose environments draw no random numbers during an episode."""
LONGEST_EPISODE = 10_000
"""Most steps of an episode that is recorded, to be replayed."""
NOT_OF_AN_EPISODE = ("info:env_id", "info:players.env_id")
OBSERVED_MASK = f"obs:{ENTRY}"
"""What EnvPool's C++ code calls a mask in the observation."""


class EnvPoolEnv(BackendEnv):
    """`num_envs` environments of EnvPool, stepped by `num_threads` threads without the interpreter's lock."""

    backend = "envpool"

    def __init__(
        self,
        env_id: str,
        kwargs: dict[str, Any],
        seeds: Sequence[int],
        *,
        num_threads: int,
        mapping: ActionMapping,
        first_index: int = 0,
        log_info: Sequence[str] = (),
        frame_stack: int | None = None,
        masked: bool = False,
    ) -> None:
        self._id = env_id
        self._masked_by_info = masked
        self._family = family_of(env_id)
        self._log_info = tuple(log_info)
        self._has_ended = end_condition(env_id)
        self._rewards_end = self._family in families.REWARDED_AT_ENDS
        self._kwargs = kwargs
        self._num_threads = num_threads
        self._mapping = mapping
        self._calls: PoolCalls | None = None
        self._calls_began: float | None = None
        inside = frame_stack is not None and stacks_itself(env_id)
        self._fixed_kwargs = {STACKS: frame_stack} if inside else {}
        self._open(seeds)
        with quiet():
            observation_space, action_space = spaces_of_pool(self._envs)
        apart = ENTRY if masked and is_observed(observation_space, action_space) else None
        self._stack = FrameStack(observation_space, frame_stack, apart) if frame_stack and not inside else None
        super().__init__(
            env_id, self._stack.space if self._stack else observation_space, action_space, len(seeds),
            mapping=mapping, first_index=first_index, masked=masked,
        )  # fmt: skip
        self._may_allow_nothing = families.may_allow_nothing(self._family, env_id)

    @property
    def longest_episode(self) -> int | None:
        return families.longest_episode(self._family, self._id, self._envs.spec.config.max_episode_steps)

    @property
    def tells_game(self) -> bool:
        return bool(self._game_info)

    def _reset(self) -> Begun:
        with quiet():
            self._observations, info = self._envs.reset()
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        if self._record is not None:
            self._record.reset(everyone)
        seen = self._stack.begun(self._observations, everyone) if self._stack else self._observations
        return Begun(seen, info[self._mask_info] if self._mask_is_used else None)

    def _reset_some(self, which: NDArray[np.bool_]) -> Begun:
        first, info = self._envs.reset(np.flatnonzero(which).astype(np.int32))
        self._observations = _with_rows(self._observations, which, first)
        if self._record is not None:
            self._record.reset(which)
        seen = self._stack.begun(self._observations, which) if self._stack else self._observations
        masks = None
        if self._mask_is_used:
            masks = np.ones((self.num_envs, *info[self._mask_info].shape[1:]), dtype=np.bool_)
            masks[which] = info[self._mask_info]
        return Begun(seen, masks)

    def _mask_in_info(self) -> str:
        return f"info['{self._mask_info}']" if self._mask_info else ""

    def _send(self, actions: NDArray[Any]) -> None:
        if self._record is not None:
            self._record.stepped(actions, self._ended)
        self._line.send(actions)

    def calls(self) -> PoolCalls:
        """Return what C++ needs to step these environments itself; another object where they were made anew.

        Between `begin_calls` and `end_calls` it may.

        Raises:
            NotCallableError: what is received needs Python.
        """
        if self._calls is None:
            if self._stack or self.layout.images or self._mask_is_used or self._game_info or self._ends_in_info:
                raise NotCallableError("what these environments return is completed in Python")
            logged = [f"{INFO_KEYS}{name}" for name in self._log_info]
            self._calls = pool_calls(
                self._envs, self.num_envs, self.observation_space, self.policy_space, self._mapping, logged
            )
            if self._has_ended is not None and len(self._calls.observed) > 1:
                self._calls = None
                raise NotCallableError("Python tells ends on the last allowed step from observations of several parts")
        return self._calls

    def begin_calls(self) -> None:
        """Let C++ take the steps that follow."""
        calls = self.calls()
        calls.ended[:], calls.waiting[:] = self._ended, 0.0
        self._calls_began = time.monotonic()

    def end_calls(self, taken: StepsTaken) -> None:
        """Go on from T steps that C++ took; set `taken.terminated` where an end on the last allowed step was hidden."""
        calls, self._calls_began = self.calls(), None
        self._observations = of_parts(iter(calls.observations()), self.observation_space)
        self._ended = calls.ended.copy()
        self._steps += taken.valid.sum(axis=0)
        if taken.truncated.any():
            last = np.nonzero(taken.truncated)
            observations = None
            if self._has_ended is not None:
                (only,) = (calls.state[index] for index in calls.observed)  # `calls` refuses several parts here
                observations = taken.observations[last].astype(only.dtype).reshape(-1, *only.shape[1:])
            rewards = taken.rewards[last].astype(calls.state[REWARD].dtype)
            taken.terminated[last] |= self._hidden_ends(observations, rewards)
        if self._record is not None:
            self._record.took(taken.actions.astype(calls.actions.dtype, copy=False), ~taken.valid)

    def raise_fault(self, valid: NDArray[np.bool_]) -> NoReturn:
        """Raise the EnvError of a number that is not finite, which C++ has received.

        Args:
            valid: [t, n] of the steps before it.
        """
        calls, self._calls_began = self.calls(), None
        self._steps += valid.sum(axis=0) + ~calls.ended
        self._check_rows(self._rows_of(of_parts(iter(calls.observations()), self.observation_space)))
        self._check(calls.state[REWARD].astype(np.float64), "reward", (self.num_envs,))
        raise AssertionError("all numbers are finite")

    @property
    def waiting_since(self) -> float | None:
        if self._calls_began is None or self._calls is None:
            return super().waiting_since
        return self._calls_began + float(self._calls.waiting[0])

    def _hidden_ends(self, observations: Any, rewards: NDArray[Any]) -> NDArray[np.bool_]:
        """Return [K] where the task itself ended, of K last steps that were truncated."""
        ended = np.zeros(len(rewards), dtype=np.bool_)
        if self._has_ended is not None:
            ended |= self._has_ended(FinalRows(observations, rewards, self._envs.spec.config))
        if self._rewards_end:
            ended |= rewards != 0
        return ended

    def _receive(self) -> Received:
        self._observations, rewards, terminated, truncated, infos = self._line.receive()
        ends, infos = infos[: len(self._ends_in_info)], infos[len(self._ends_in_info) :]
        masks = None
        if self._mask_is_used:
            *infos, masks = infos
        if truncated.any():  # where an end on the last allowed step would be hidden
            last = np.flatnonzero(truncated)
            terminated[last] |= self._hidden_ends(_rows_of(self._observations, last), rewards[last])
            for told in ends:
                terminated |= truncated & np.asarray(told, dtype=np.bool_).reshape(self.num_envs)
        info = game = None
        if self._game_info:
            *infos, scored, over = infos
            rewards_of_game = np.asarray(scored, dtype=np.float64).reshape(self.num_envs)
            game = Game(rewards_of_game, over.reshape(self.num_envs).astype(np.bool_) | truncated)
        if infos and (terminated | truncated).any():
            info = np.stack([np.asarray(values, dtype=np.float64).reshape(self.num_envs) for values in infos], axis=1)
        seen = self._stack.stepped(self._observations, self._ended) if self._stack else self._observations
        return Received(seen, rewards, terminated, truncated, info, game, masks)

    def close(self) -> None:
        if hasattr(self, "_envs"):
            self._envs.close()
            self._calls = None
            del self._envs, self._line  # closing alone frees none of the memory
            return_free_memory()

    def _restart(self, seeds: Sequence[int]) -> None:
        self.close()  # two pools at a time would take twice the memory
        self._open(seeds)

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        self._kwargs = kwargs

    def _captured(self) -> list[State] | None:
        if self._record is None:
            return None
        states = self._record.states(self._observations)
        if self._stack is None:
            return states
        frames = self._stack.of_each_environment()
        return [{**state, "frames": each} for state, each in zip(states, frames, strict=True)]

    def _restore(self, states: list[State]) -> None:
        if "seed" not in states[0]:
            raise StateNotReached("the checkpoint holds environments of another backend")
        self._restart([state["seed"] for state in states])
        if self._record is None:
            raise StateNotReached(f"EnvPool's {self._id} cannot be replayed with these settings")
        with quiet():
            replay(self._envs, states)
        self._record.load(states)
        self._observations = np.stack([state["observation"] for state in states])
        if self._stack is not None:
            self._stack.load([state["frames"] for state in states])

    def picture(self) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3] of the first environment, which was made with `render_mode`."""
        picture: NDArray[np.uint8] = self._envs.render()[0]
        return picture

    @property
    def pictures_per_second(self) -> float | None:
        """How many steps are a second."""
        return PICTURES_PER_SECOND

    def _open(self, seeds: Sequence[int]) -> None:
        self._envs = made_pool(self._id, {**self._kwargs, **self._fixed_kwargs}, seeds, num_threads=self._num_threads)
        _check_info(self._envs, self._log_info)
        has = self._envs._state_keys
        self._ends_in_info = [
            name for name in families.ENDS_IN_INFO.get(self._family, ()) if f"{INFO_KEYS}{name}" in has
        ]
        self._game_info = game_info(self._envs)
        masks = [name for name in INFO_NAMES if self._masked_by_info and f"{INFO_KEYS}{name}" in has]
        self._mask_info = "" if OBSERVED_MASK in has or not masks else masks[0]
        self._mask_is_used = bool(self._mask_info and choice_sizes(self._envs.action_space))
        used = [self._mask_info] if self._mask_is_used else []
        received = (*self._ends_in_info, *self._log_info, *self._game_info, *used)
        self._line: DirectLine | PublicLine = (
            DirectLine(self._envs, len(seeds), received)
            if DirectLine.fits(self._envs)
            else PublicLine(self._envs, received)
        )
        self._record = self._new_record(seeds)
        self._calls = None

    def _new_record(self, seeds: Sequence[int]) -> ActionRecord | None:
        """Return an empty record; None where an environment cannot be replayed."""
        longest = self.longest_episode
        if longest is None or longest > LONGEST_EPISODE or self._family not in RANDOM_AT_RESETS_ONLY:
            return None
        return ActionRecord(seeds, longest)


def _check_info(pool: Any, log_info: Sequence[str]) -> None:
    """Raise ConfigError unless the pool's info has these entries, and each is one number per environment."""
    state = dict(zip(pool._state_keys, pool.spec.state_array_spec.values(), strict=True))
    known = [
        key.removeprefix(INFO_KEYS)
        for key in pool._state_keys
        if key.startswith(INFO_KEYS) and key not in NOT_OF_AN_EPISODE
    ]
    for name in log_info:
        if name not in known:
            raise ConfigError(unknown_info(name, known))
        shape = tuple(state[f"{INFO_KEYS}{name}"].shape)
        if any(size > 1 for size in shape):  # -1 is the environments' own axis
            raise ConfigError(f"env.log_info=[{name}]: is of shape {shape}, no single number; leave it out")


def _rows_of(batch: Any, which: NDArray[np.intp]) -> Any:
    """Return the rows `which` [K] of a batch, an array or a dictionary of arrays."""
    if isinstance(batch, dict):
        return {key: _rows_of(part, which) for key, part in batch.items()}
    return batch[which]


def _with_rows(batch: Any, which: NDArray[np.bool_], rows: Any) -> Any:
    """Return `batch`, an array or a dictionary of arrays, with `rows` in place of those where `which` [N]."""
    if isinstance(batch, dict):
        return {key: _with_rows(part, which, rows[key]) for key, part in batch.items()}
    changed = batch.copy()
    changed[which] = rows
    return changed
