"""Vector environments out of Gymnasium's own, in this process or in one process each."""

from __future__ import annotations

import multiprocessing.connection
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from ppolab.envs.base import BackendEnv
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.state import State, captured, restore
from ppolab.errors import EnvError


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says where an exception or a wrong shape came from, and gives and takes the environment's state."""

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str, index: int) -> None:
        super().__init__(env)
        self._name = f"{env_id}: environment {index}"
        self._index = index
        self._steps = 0
        self._ended = False
        self._shape = env.observation_space.shape

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        try:
            observation, info = self.env.reset(**kwargs)
        except (Exception, SystemExit) as error:
            raise EnvError(f"{self._name} raised at a reset after {self._steps} steps: {_told(error)}") from error
        self._ended = False
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if self._ended:  # before its state was taken, so that the vector environment does not know
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self._steps += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            reward = float(reward)
        except (Exception, SystemExit) as error:
            raise EnvError(f"{self._name} raised at its step {self._steps}: {_told(error)}") from error
        self._ended = bool(terminated or truncated)
        return self._checked(observation), reward, terminated, truncated, info

    def captured(self) -> State | None:
        """See `ppolab.envs.state`."""
        return captured(self)

    def restored(self, states: Sequence[State]) -> None:
        """Take the state that is at this environment's place in `states`."""
        restore(self, states[self._index])

    def _checked(self, observation: Any) -> Any:
        if self._shape is not None and np.shape(observation) != self._shape:
            raise EnvError(
                f"{self._name} returned an observation of shape {np.shape(observation)} at its step {self._steps}, "
                f"but its observation space says {self._shape}"
            )
        return observation


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class GymnasiumEnv(BackendEnv):
    """`num_envs` Gymnasium environments stepped one after another (sync) or in parallel processes (async)."""

    backend = "gymnasium"

    def __init__(
        self, env_id: str, kwargs: dict[str, Any], seeds: Sequence[int], *, asynchronous: bool, mapping: ActionMapping
    ) -> None:
        self._make = partial(_made, env_id, kwargs, len(seeds), asynchronous=asynchronous)
        self._envs = self._make()
        self._seeds: list[int | None] | None = list(seeds)
        spec = gymnasium.spec(env_id.rpartition(":")[2])  # the module before a colon was imported with the first one
        self._longest: int | None = kwargs.get("max_episode_steps", spec.max_episode_steps)
        super().__init__(
            env_id, self._envs.single_observation_space, self._envs.single_action_space, len(seeds),
            mapping=mapping,
        )  # fmt: skip

    def _reset(self) -> Any:
        seeds, self._seeds = self._seeds, None  # later resets go on with the environments' own random states
        with self._alive():
            return self._envs.reset(seed=seeds)[0]

    @property
    def longest_episode(self) -> int | None:
        return self._longest

    def _reset_some(self, which: NDArray[np.bool_]) -> Any:
        with self._alive():
            return self._envs.reset(options={"reset_mask": which})[0]

    def _send(self, actions: NDArray[Any]) -> None:
        if isinstance(self._envs, AsyncVectorEnv):
            with self._alive():
                self._envs.step_async(actions)
        else:
            self._actions = actions

    def _receive(self) -> tuple[Any, Any, NDArray[np.bool_], NDArray[np.bool_]]:
        if isinstance(self._envs, AsyncVectorEnv):
            with self._alive():
                observations, rewards, terminated, truncated, _ = self._envs.step_wait()
        else:
            observations, rewards, terminated, truncated, _ = self._envs.step(self._actions)
        return observations, rewards, terminated, truncated

    def close(self) -> None:
        self._envs.close()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Tell of an environment whose process is gone, and end the others, which nobody can ask to."""
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            assert isinstance(self._envs, AsyncVectorEnv)
            processes = self._envs.processes
            ended = multiprocessing.connection.wait([process.sentinel for process in processes], timeout=5.0)
            which, code = "one", None
            for index, process in enumerate(processes):
                if process.sentinel in ended:
                    process.join(5.0)
                    which, code = str(index), process.exitcode
            self._envs.close(terminate=True)
            raise EnvError(
                f"{self.env_id}: the process of environment {which} is gone (exit code {code}): it crashed, left "
                "Python or ran out of memory; env.vectorization=sync may show more"
            ) from None

    def _restart(self, seeds: Sequence[int]) -> None:
        self._envs.close()
        del self._envs  # before the new ones take as much memory
        self._envs, self._seeds = self._make(), list(seeds)

    def _captured(self) -> list[State] | None:
        states = self._envs.call("captured")
        return None if any(state is None for state in states) else list(states)

    def _restore(self, states: list[State]) -> None:
        self._envs.reset(seed=self._seeds)  # wrappers want one before the first step
        self._seeds = None
        self._envs.call("restored", states)


def _made(env_id: str, kwargs: dict[str, Any], count: int, *, asynchronous: bool) -> SyncVectorEnv | AsyncVectorEnv:
    makers = [_maker(env_id, kwargs, index) for index in range(count)]
    if not asynchronous:
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    # its report of a worker's error repeats ours, and itself fails on a % in the text
    gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
    return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def _maker(env_id: str, kwargs: dict[str, Any], index: int) -> Callable[[], gymnasium.Env[Any, Any]]:
    def make() -> gymnasium.Env[Any, Any]:
        return Guarded(gymnasium.make(env_id, disable_env_checker=True, **kwargs), env_id, index)

    return make
