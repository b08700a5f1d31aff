"""Vector environments of Gymnasium's MuJoCo tasks that mujoco-warp simulates."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.config.schema import EnvConfig
from ppolab.envs.frame_stack import FrameStack
from ppolab.envs.making import made_once
from ppolab.envs.snapshot import State
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.tensor_env import TensorSteps
from ppolab.envs.vector_env import BackendEnv, Begun, Received
from ppolab.envs.warp.placement import placed_on
from ppolab.envs.warp.scene import Task
from ppolab.envs.warp.simulator import Simulator
from ppolab.envs.warp.tasks import TASKS
from ppolab.envs.warp.worlds import Worlds, WorldStep
from ppolab.errors import ConfigError, StateNotReached, spelled

log = logging.getLogger(__name__)

WORLDS = "worlds"
"""The entry of a snapshot that holds the state of all worlds."""


class WarpEnv(BackendEnv):
    """N worlds on a GPU, or on the processor, where they are slow."""

    backend = "warp"

    def __init__(
        self, env: EnvConfig, seeds: Sequence[int], *, mapping: ActionMapping, device: torch.device | None = None
    ) -> None:
        self._config, self._device = env, device or torch.device("cpu")
        if self._device.type == "cpu":
            log.info("%s: mujoco-warp is slow on a processor, and compiles its kernels at the first start", env.id)
        self.worlds, spaces = _made(env, seeds, self._device)
        self._placed = placed_on(spaces[1], mapping, self._device)
        self._told_overflow = False
        self._stack = FrameStack(spaces[0], env.frame_stack, None) if env.frame_stack else None
        super().__init__(
            env.id, self._stack.space if self._stack else spaces[0], spaces[1], len(seeds), mapping=mapping
        )

    @property
    def longest_episode(self) -> int | None:
        return self.worlds.longest

    def _mask_in_info(self) -> str:
        return ""

    def _reset(self) -> Begun:
        return self._reset_some(np.ones(self.num_envs, dtype=np.bool_))

    def _reset_some(self, which: NDArray[np.bool_]) -> Begun:
        observations = self.worlds.reset(torch.from_numpy(which).to(self._device)).cpu().numpy()
        return Begun(self._stack.begun(observations, which) if self._stack else observations)

    @property
    def on_device(self) -> WarpEnv | None:
        return self if self._stack is None else None

    @property
    def device(self) -> torch.device:
        """Where the worlds are."""
        return self._device

    def begin_tensors(self) -> None:
        """Let the steps that follow be taken by `step_tensors`."""
        self._waiting_since = time.monotonic()

    def step_tensors(self, actions: Tensor) -> WorldStep:
        """Take one step with the policy's actions [N, ...] on the device; nothing comes back to the processor."""
        self._waiting_since = time.monotonic()  # `env.timeout` is of a step, not of a rollout
        return self.worlds.step(self._placed(actions))

    def end_tensors(self, taken: TensorSteps) -> None:
        """Go on from T steps that `step_tensors` took.

        Raises:
            EnvError: a number in them is not finite.
        """
        self._waiting_since = None
        for observations, rewards, valid in zip(taken.observations, taken.rewards, taken.valid, strict=True):
            self._steps += valid
            self._check_rows(observations)
            self._check(rewards, "reward", (self.num_envs,))
        self._ended = taken.ended.copy()
        self._tell_of_faults(taken.diverged)

    def _send(self, actions: NDArray[Any]) -> None:
        self._actions = torch.from_numpy(np.ascontiguousarray(actions, dtype=np.float32)).to(self._device)

    def _receive(self) -> Received:
        began = self._ended
        step = self.worlds.step(self._actions)
        self._tell_of_faults(int(step.diverged.sum()))
        observations = step.observations.cpu().numpy()
        return Received(
            self._stack.stepped(observations, began) if self._stack else observations,
            step.rewards.cpu().numpy(),
            step.terminated.cpu().numpy(),
            step.truncated.cpu().numpy(),
        )

    def _tell_of_faults(self, diverged: int) -> None:
        if diverged:
            log.warning("%s: %d worlds diverged, and their episodes were ended", self.env_id, diverged)
        if not self._told_overflow and bool(self.worlds.overflow.any()):
            self._told_overflow = True
            log.warning(
                "%s: some worlds have more contacts than there is memory for; the forces of the others are missing",
                self.env_id,
            )

    def close(self) -> None:
        if hasattr(self, "worlds"):
            del self.worlds

    def _restart(self, seeds: Sequence[int]) -> None:
        self.close()
        self.worlds, _ = _made(self._config, seeds, self._device)

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        self._config = replace(self._config, kwargs=kwargs)

    def _captured(self) -> list[State] | None:
        frames = {} if self._stack is None else {"frames": self._stack.of_each_environment()}
        return [{WORLDS: {name: value.numpy() for name, value in self.worlds.state().items()}, **frames}]

    def _restore(self, states: list[State]) -> None:
        if WORLDS not in states[0]:
            raise StateNotReached("the checkpoint holds environments of another backend")
        self.worlds.restore({name: torch.from_numpy(value) for name, value in states[0][WORLDS].items()})
        if self._stack is not None:
            self._stack.load(states[0]["frames"])


def task_of(env: EnvConfig) -> Task:
    """Return the task of `env` with the arguments of `env.kwargs` that it has."""
    kind = TASKS[env.id]
    own = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in env.kwargs.items() if name in own})


def check_body(env: EnvConfig, bodies: Sequence[str]) -> None:
    """Raise ConfigError unless `env.kwargs.main_body`, where it is given, is one of a model's bodies, or its place."""
    body = env.kwargs.get("main_body")
    is_place = isinstance(body, int) and not isinstance(body, bool) and 0 <= body < len(bodies)
    if body is None or is_place or (isinstance(body, str) and body in bodies):
        return
    named = ", ".join(name for name in bodies if name)
    raise ConfigError(
        f"env.kwargs.main_body={spelled(body)}: {env.id} has no such body; use a number from 0 to {len(bodies) - 1}, "
        f"or one of {named}"
    )


def _made(
    env: EnvConfig, seeds: Sequence[int], device: torch.device
) -> tuple[Worlds, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
    """Return the worlds, and the spaces of observations and actions, which are those of Gymnasium's environment."""
    probe = made_once(replace(env, frame_stack=None))
    inner: Any = probe.unwrapped
    longest = None if probe.spec is None else probe.spec.max_episode_steps
    task = task_of(env)
    check_body(env, [inner.model.body(index).name for index in range(inner.model.nbody)])
    simulator = Simulator(
        inner.model, len(seeds), inner.frame_skip, device,
        contacts=task.contacts, rows=task.rows, with_forces=task.has_forces,
    )  # fmt: skip
    probe.close()
    return Worlds(task, simulator, seeds, longest), (probe.observation_space, probe.action_space)
