"""Vector environments of worlds that are simulated together, on the tensors of one device."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.config.schema import EnvConfig
from ppolab.envs.frame_stack import FrameStack
from ppolab.envs.snapshot import NoState, State
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.tensor_env import TensorSteps
from ppolab.envs.vector_env import BackendEnv, Begun, Received
from ppolab.envs.warp.placement import placed_on
from ppolab.errors import StateNotReached

log = logging.getLogger(__name__)

WORLDS = "worlds"
"""The entry of a snapshot that holds the state of all worlds."""


class WorldStep(NamedTuple):
    """One step of N worlds.

    Attributes:
        observations: [N, D]. rewards: [N]. terminated, truncated: [N] bool.
        valid: [N] bool; False where the step only began a new episode.
        diverged: [N] bool, worlds that were ended since a number in them was no longer finite.
    """

    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    diverged: Tensor


class AllWorlds(Protocol):
    """N worlds, which begin anew on the step after an episode's end (NEXT_STEP)."""

    @property
    def longest(self) -> int | None:
        """Return the actions after which an episode is truncated; None: never."""

    def reset(self, which: Tensor | None = None) -> Tensor:
        """Begin new episodes where `which` [N] bool, or in all worlds; return all latest observations [N, D]."""

    def step(self, actions: Tensor) -> WorldStep:
        """Take one step with actions [N, A]; those of worlds whose episode had ended are ignored."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that `restore` needs, on the CPU.

        Raises:
            NoState: there may be more than is known.
        """

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""


class WorldsEnv(BackendEnv):
    """N worlds on a GPU, or on the processor, where they are slow."""

    def __init__(
        self, env: EnvConfig, seeds: Sequence[int], *, mapping: ActionMapping, device: torch.device | None = None
    ) -> None:
        self._config, self._device = env, device or torch.device("cpu")
        self.worlds: AllWorlds
        self.worlds, spaces = self._made(seeds)
        self._placed = placed_on(spaces[1], mapping, self._device)
        self._stack = FrameStack(spaces[0], env.frame_stack, None) if env.frame_stack else None
        super().__init__(
            env.id, self._stack.space if self._stack else spaces[0], spaces[1], len(seeds), mapping=mapping
        )

    @abstractmethod
    def _made(self, seeds: Sequence[int]) -> tuple[AllWorlds, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
        """Return new worlds, and the spaces of one world's observations and actions."""

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
    def on_device(self) -> WorldsEnv | None:
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

    def close(self) -> None:
        if hasattr(self, "worlds"):
            del self.worlds

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        self._config = replace(self._config, kwargs=kwargs)

    def _restart(self, seeds: Sequence[int]) -> None:
        self.close()
        self.worlds, _ = self._made(seeds)

    def _captured(self) -> list[State] | None:
        try:
            worlds = {name: value.numpy() for name, value in self.worlds.state().items()}
        except NoState:
            return None
        frames = {} if self._stack is None else {"frames": self._stack.of_each_environment()}
        return [{WORLDS: worlds, **frames}]

    def _restore(self, states: list[State]) -> None:
        if WORLDS not in states[0]:
            raise StateNotReached("the checkpoint holds environments of another backend")
        self.worlds.restore({name: torch.from_numpy(value) for name, value in states[0][WORLDS].items()})
        if self._stack is not None:
            self._stack.load(states[0]["frames"])
