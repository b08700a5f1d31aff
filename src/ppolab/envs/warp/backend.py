"""Vector environments of Gymnasium's MuJoCo tasks that mujoco-warp simulates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import gymnasium
import torch

from ppolab.config.schema import EnvConfig
from ppolab.envs.making import made_once
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.warp.scene import Task
from ppolab.envs.warp.simulator import Simulator
from ppolab.envs.warp.tasks import TASKS
from ppolab.envs.warp.worlds import Worlds
from ppolab.envs.warp.worlds_env import WorldsEnv
from ppolab.errors import ConfigError, spelled

log = logging.getLogger(__name__)


class WarpEnv(WorldsEnv):
    """N worlds of one of Gymnasium's tasks."""

    backend = "warp"
    worlds: Worlds
    _told_overflow = False

    def __init__(
        self, env: EnvConfig, seeds: Sequence[int], *, mapping: ActionMapping, device: torch.device | None = None
    ) -> None:
        if device is None or device.type == "cpu":
            log.info("%s: mujoco-warp is slow on a processor, and compiles its kernels at the first start", env.id)
        super().__init__(env, seeds, mapping=mapping, device=device)

    def _made(self, seeds: Sequence[int]) -> tuple[Worlds, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]:
        probe = made_once(replace(self._config, frame_stack=None))
        inner: Any = probe.unwrapped
        longest = None if probe.spec is None else probe.spec.max_episode_steps
        task = task_of(self._config)
        check_body(self._config, [inner.model.body(index).name for index in range(inner.model.nbody)])
        simulator = Simulator(
            inner.model, len(seeds), inner.frame_skip, self._device,
            contacts=task.contacts, rows=task.rows, with_forces=task.has_forces,
        )  # fmt: skip
        probe.close()
        return Worlds(task, simulator, seeds, longest), (probe.observation_space, probe.action_space)

    def _tell_of_faults(self, diverged: int) -> None:
        super()._tell_of_faults(diverged)
        if not self._told_overflow and bool(self.worlds.overflow.any()):
            self._told_overflow = True
            log.warning(
                "%s: some worlds have more contacts than there is memory for; the forces of the others are missing",
                self.env_id,
            )


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
