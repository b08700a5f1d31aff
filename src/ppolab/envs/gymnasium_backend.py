"""Vector environments made of Gymnasium's, in this process or in one process each."""

from __future__ import annotations

import logging
import multiprocessing.connection
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from ppolab.config.schema import EnvConfig
from ppolab.envs.action_masks import FIX, is_wanted
from ppolab.envs.guarded import GAME, INFO, MAKING, MASK, Guarded, GuardedAlone
from ppolab.envs.making import make_env
from ppolab.envs.rendering import prepare_scene
from ppolab.envs.seeding import seed_global_generators
from ppolab.envs.snapshot import State
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.vector_env import BackendEnv, Begun, Game, Received
from ppolab.errors import EnvError, StateNotReached

log = logging.getLogger(__name__)

CLOSING_SECONDS = 10.0
"""How long worker processes may take to answer and to close their environments before they are ended."""

GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""What the pipe to a worker process raises when that process has ended."""


class GymnasiumEnv(BackendEnv):
    """`num_envs` Gymnasium environments stepped one after another (sync) or in parallel processes (async)."""

    backend = "gymnasium"

    def __init__(self, env: EnvConfig, seeds: Sequence[int], *, mapping: ActionMapping) -> None:
        self._config = env
        self._envs = _made(env, seeds)
        self._seeds: list[int | None] | None = list(seeds)
        self._notice()
        self._mask_found = ""
        self._scene_is_ready = False
        super().__init__(
            env.id, self._envs.single_observation_space, self._envs.single_action_space, len(seeds),
            mapping=mapping, masked=is_wanted(env),
        )  # fmt: skip

    def _reset(self) -> Begun:
        seeds, self._seeds = self._seeds, None  # later resets continue the environments' own random states
        with self._alive():
            observations, infos = self._envs.reset(seed=seeds)
            if self.masked:
                self._mask_found = self._envs.call("mask_found")[0]
        given = infos.get(f"_{MASK}")  # which environments have one
        if given is not None and not given.all():
            which = f"environment {int(given.argmin())} gave no mask of actions with a reset, and others did"
            raise EnvError(f"{self.env_id}: {which}; {FIX}")
        return Begun(observations, infos.get(MASK))

    def _mask_in_info(self) -> str:
        return self._mask_found

    @property
    def longest_episode(self) -> int | None:
        return self._longest

    @property
    def tells_game(self) -> bool:
        return self._tells_game

    def _reset_some(self, which: NDArray[np.bool_]) -> Begun:
        with self._alive():
            observations, infos = self._envs.reset(options={"reset_mask": which})
        return Begun(observations, infos.get(MASK))

    def _send(self, actions: NDArray[Any]) -> None:
        if isinstance(self._envs, AsyncVectorEnv):
            with self._alive():
                self._envs.step_async(actions)
        else:
            self._actions = actions

    def _receive(self) -> Received:
        with self._alive():
            if isinstance(self._envs, AsyncVectorEnv):
                observations, rewards, terminated, truncated, infos = self._envs.step_wait()
            else:
                observations, rewards, terminated, truncated, infos = self._envs.step(self._actions)
        game = None
        if self._tells_game:
            told = infos.get(GAME, np.zeros((self.num_envs, 2)))  # nothing where all environments only reset
            game = Game(told[:, 0], told[:, 1].astype(np.bool_))
        return Received(observations, rewards, terminated, truncated, infos.get(INFO), game, infos.get(MASK))

    def picture(self) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3] of the first environment, which was made with `render_mode` in this process."""
        assert isinstance(self._envs, SyncVectorEnv)
        if not self._scene_is_ready:
            prepare_scene(self._envs.envs[0])
            self._scene_is_ready = True
        return np.asarray(self._envs.envs[0].render())

    @property
    def pictures_per_second(self) -> float | None:
        """How many steps the environment says are a second; None where it does not."""
        told = self._envs.metadata.get("render_fps")
        return float(told) if told else None

    def close(self) -> None:
        """Close the environments; worker processes that do not answer are ended.

        What they had to give has arrived, so one that is gone is a warning, not an error.
        """
        if isinstance(self._envs, SyncVectorEnv):
            self._envs.close()
            return
        try:
            self._envs.close(timeout=CLOSING_SECONDS)
        except GONE:
            log.warning("%s, when it was closed", _end_after_a_loss(self.env_id, self._envs))

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Write an environment's traceback to the log, and end all worker processes once one of them is gone."""
        try:
            yield
        except EnvError as error:
            fault = error.args[0] if isinstance(error.args[0], EnvError) else error  # another process wraps it
            for note in getattr(fault, "__notes__", ()):
                log.debug("%s\n%s", fault, note)
            raise
        except GONE:
            assert isinstance(self._envs, AsyncVectorEnv)
            problem = _end_after_a_loss(self.env_id, self._envs)
            raise EnvError(f"{problem}; env.vectorization=sync may show more") from None

    def _restart(self, seeds: Sequence[int]) -> None:
        self.close()
        del self._envs  # before the new ones take as much memory
        self._envs, self._seeds = _made(self._config, seeds), list(seeds)
        self._notice()

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        self._config = replace(self._config, kwargs=kwargs)

    def _notice(self) -> None:
        """Look at what all of the environments, which are new, have in common."""
        with self._alive():
            self._longest: int | None = self._envs.call("longest_episode")[0]
            self._tells_game: bool = self._envs.call("tells_game")[0]

    def _captured(self) -> list[State] | None:
        with self._alive():
            states = self._envs.call("captured")
        return None if any(state is None for state in states) else list(states)

    def _restore(self, states: list[State]) -> None:
        if "0" not in states[0]:
            raise StateNotReached("the checkpoint holds environments of another backend")
        with self._alive():
            self._envs.reset(seed=self._seeds)  # wrappers want one before the first step
            self._seeds = None
            self._envs.call("restored", states)


def _made(env: EnvConfig, seeds: Sequence[int]) -> SyncVectorEnv | AsyncVectorEnv:
    makers = [_maker(env, index, seed) for index, seed in enumerate(seeds)]
    if env.vectorization != "async":
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    # its report of a worker's error repeats ours, and itself fails on a % in the text
    gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
    return WorkerProcesses(env.id, makers)


class WorkerProcesses(AsyncVectorEnv):
    """Gymnasium's processes, all of which are ended if one of them is gone before it has made its environment."""

    def __init__(self, env_id: str, makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]]) -> None:
        try:
            super().__init__(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
        except GONE:
            problem = _end_after_a_loss(env_id, self)
            raise EnvError(f"{problem}, when it was made; env.vectorization=sync may show more") from None


def _end_after_a_loss(env_id: str, envs: AsyncVectorEnv) -> str:
    """End all worker processes, since one is gone; returns which and with which exit code."""
    ended = multiprocessing.connection.wait([process.sentinel for process in envs.processes], timeout=5.0)
    which, code = "one", None
    for index, process in enumerate(envs.processes):
        if process.sentinel in ended:
            process.join(5.0)
            which, code = str(index), process.exitcode
    envs.close(terminate=True)
    return (
        f"{env_id}: the process of environment {which} is gone (exit code {code}): it crashed, left Python or ran out "
        "of memory"
    )


def _maker(env: EnvConfig, index: int, seed: int) -> Callable[[], gymnasium.Env[Any, Any]]:
    ours = os.getpid()

    def make() -> gymnasium.Env[Any, Any]:
        alone = os.getpid() != ours  # Gymnasium also makes one here, to see its spaces
        if alone:
            seed_global_generators(seed, MAKING)
        return (GuardedAlone if alone else Guarded)(make_env(env), env.id, index, env.log_info, masked=is_wanted(env))

    return make
