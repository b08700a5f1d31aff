"""Vector environments in EnvPool's C++ threads."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from operator import itemgetter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.base import BackendEnv
from ppolab.envs.relived import Logbook, relive
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.state import State
from ppolab.errors import ConfigError

RANDOM_AT_RESETS_ONLY = ("envpool.mujoco.gym", "envpool.classic_control")
"""Families whose environments draw no random numbers while an episode goes on."""
LONGEST_EPISODE = 10_000
"""Steps that may be written down, to be lived again."""


def is_installed() -> bool:
    """Whether EnvPool can be imported here."""
    return importlib.util.find_spec("envpool") is not None


@cache
def _envpool() -> ModuleType:
    with _quiet():
        import envpool
    return envpool


def _return_free_memory() -> None:
    """To the system: every pool allocates in threads of its own, and glibc keeps what was freed for these alone."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Its import, its environments and their spaces warn of the precision of its own Box bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def has(env_id: str) -> bool:
    """Whether EnvPool has an environment of this id."""
    return is_installed() and env_id in _envpool().list_all_envs()


class PublicLine:
    """Steps a pool by EnvPool's own methods."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def send(self, actions: NDArray[Any]) -> None:
        """Start a step."""
        self._pool.send(actions)

    def receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_]]:
        """Wait for it: observations, rewards, terminated, truncated."""
        observations, rewards, terminated, truncated, _ = self._pool.recv()
        return observations, rewards, terminated, truncated


class DirectLine:
    """The same by the C++ calls under them, for one plain observation and one plain action.

    EnvPool's own methods rebuild its settings and all infos at every step: with 16 environments as much of the main
    thread's time as everything else between two steps.
    """

    SENT = ("env_id", "players.env_id", "action")
    RECEIVED = ("obs", "reward", "done", "trunc")

    def __init__(self, pool: Any, num_envs: int) -> None:
        self._send, self._recv = pool._send, pool._recv
        keys = list(pool._state_keys)
        self._places = itemgetter(*(keys.index(key) for key in self.RECEIVED))
        self._everyone = np.arange(num_envs, dtype=np.int32)
        self._type = pool.spec.action_array_spec["action"].dtype

    @classmethod
    def fits(cls, pool: Any) -> bool:
        """Whether this is all that the pool takes, and what it gives."""
        return tuple(pool._spec._action_keys) == cls.SENT and set(cls.RECEIVED) <= set(pool._state_keys)

    def send(self, actions: NDArray[Any]) -> None:
        """Start a step."""
        self._send([self._everyone, self._everyone, actions.astype(self._type, order="C", copy=False)])

    def receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_]]:
        """Wait for it: observations, rewards, terminated, truncated."""
        observations, rewards, done, truncated = self._places(self._recv())
        return observations, rewards, done & ~truncated, truncated


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
    ) -> None:
        self._id = env_id
        self._make = partial(_made, env_id, kwargs, num_threads=num_threads)
        self._open(seeds)
        with _quiet():
            observation_space, action_space = self._envs.observation_space, self._envs.action_space
        super().__init__(
            env_id, observation_space, action_space, len(seeds),
            mapping=mapping, first_index=first_index,
        )  # fmt: skip

    @property
    def longest_episode(self) -> int | None:
        longest: int = self._envs.spec.config.max_episode_steps
        return longest

    def _reset(self) -> Any:
        with _quiet():
            self._observations = self._envs.reset()[0]
        if self._log is not None:
            self._log.reset(np.ones(self.num_envs, dtype=np.bool_))
        return self._observations

    def _reset_some(self, which: NDArray[np.bool_]) -> Any:
        first = self._envs.reset(np.flatnonzero(which).astype(np.int32))[0]
        self._observations = _with_rows(self._observations, which, first)
        if self._log is not None:
            self._log.reset(which)
        return self._observations

    def _send(self, actions: NDArray[Any]) -> None:
        if self._log is not None:
            self._log.stepped(actions, self._ended)
        self._line.send(actions)

    def _receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_]]:
        self._observations, rewards, terminated, truncated = self._line.receive()
        return self._observations, rewards, terminated, truncated

    def close(self) -> None:
        self._envs.close()

    def _restart(self, seeds: Sequence[int]) -> None:
        self._envs.close()
        del self._envs, self._line  # which frees them: two pools at a time would take twice the memory
        _return_free_memory()
        self._open(seeds)

    def _captured(self) -> list[State] | None:
        return None if self._log is None else self._log.states(self._observations)

    def _restore(self, states: list[State]) -> None:
        self._restart([state["seed"] for state in states])
        assert self._log is not None
        with _quiet():
            relive(self._envs, states)
        self._log.load(states)
        self._observations = np.stack([state["observation"] for state in states])

    def _open(self, seeds: Sequence[int]) -> None:
        self._envs = self._make(seeds)
        self._line: DirectLine | PublicLine = (
            DirectLine(self._envs, len(seeds)) if DirectLine.fits(self._envs) else PublicLine(self._envs)
        )
        self._log = self._new_log(seeds)

    def _new_log(self, seeds: Sequence[int]) -> Logbook | None:
        """None where an environment cannot be lived again."""
        longest = self.longest_episode
        family = _envpool().registration.registry.specs[self._id][0]
        if longest is None or longest > LONGEST_EPISODE or family not in RANDOM_AT_RESETS_ONLY:
            return None
        return Logbook(seeds, longest)


def _with_rows(batch: Any, which: NDArray[np.bool_], rows: Any) -> Any:
    """`batch`, an array or a dictionary of such, with `rows` in place of those `which`."""
    if isinstance(batch, dict):
        return {key: _with_rows(part, which, rows[key]) for key, part in batch.items()}
    changed = batch.copy()
    changed[which] = rows
    return changed


def _made(env_id: str, kwargs: dict[str, Any], seeds: Sequence[int], *, num_threads: int) -> Any:
    num_envs = len(seeds)
    try:
        with _quiet():
            return _envpool().make(
                env_id, env_type="gymnasium", num_envs=num_envs, seed=list(seeds),
                num_threads=min(num_threads, num_envs), **kwargs,
            )  # fmt: skip
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"env.kwargs={kwargs}: EnvPool does not take these for {env_id} ({error}); use env.backend=gymnasium"
        ) from error
