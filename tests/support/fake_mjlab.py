"""A stand-in for the package mjlab, with one task, whose environment steps in the order in which mjlab's does.

A world is a position that its action moves. It ends at 3 or beyond (`failed`), and after `episode_length_s` steps.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch
from torch import Tensor

from ppolab.envs.warp.mjlab_state import GUESS, SIMULATED

TASK = "Fake-Moving"
ENV_ID = f"mjlab:{TASK}"
GOAL = 3.0


@dataclass
class SceneCfg:
    num_envs: int = 1
    spacing: tuple[float, float] = (1.0, 2.0)


@dataclass
class TermCfg:
    weight: float = 1.0
    time_out: bool = False
    func: Any = print


@dataclass
class EnvCfg:
    scene: SceneCfg = field(default_factory=SceneCfg)
    seed: int | None = 7
    auto_reset: bool = False
    is_finite_horizon: bool = False
    episode_length_s: float = 5.0
    decimation: int = 1
    rewards: dict[str, TermCfg] = field(default_factory=lambda: {"moved": TermCfg()})
    broken: bool = False


class Terminations:
    """As mjlab's manager: it gives its own two tensors away, and fills them anew in each step."""

    def __init__(self, env: FakeEnv) -> None:
        self._env = env
        self.terminated = torch.zeros(env.num_envs, dtype=torch.bool)
        self.time_outs = torch.zeros(env.num_envs, dtype=torch.bool)
        self.active_terms = ["failed", "time_out"]

    def get_term_cfg(self, name: str) -> TermCfg:
        return TermCfg(time_out=name == "time_out")

    def compute(self) -> Tensor:
        self.terminated[:] = self._env.sim.data.qpos[:, 0] >= GOAL
        self.time_outs[:] = self._env.episode_length_buf >= self._env.max_episode_length
        return self.terminated | self.time_outs


class Simulation:
    def __init__(self, worlds: int) -> None:
        self.data = types.SimpleNamespace(
            **{name: torch.zeros(worlds, 1 if name in ("qpos", GUESS) else 0) for name in (*SIMULATED, GUESS)}
        )
        self.wp_data = self.data
        self.model = types.SimpleNamespace(mass=torch.rand(worlds, 1))
        self.expanded_fields = {"mass"}
        self.derived = torch.zeros(worlds, 1)

    def step(self) -> None:
        """Nothing falls in this world."""

    def forward(self) -> None:
        self.derived = self.data.qpos * self.model.mass
        self.data.qacc_warmstart += 1.0

    def sense(self) -> None:
        """Nothing is sensed."""

    def reset(self) -> None:
        self.data.qpos.zero_()


class FakeEnv:
    """As mjlab's ManagerBasedRlEnv; a reset draws from PyTorch's global generator.

    Attributes:
        failures: for each reset world, whether its episode had failed, as a term of mjlab's may ask at a reset.
        level: a plain value that a curriculum raises.
    """

    def __init__(self, cfg: EnvCfg, device: str) -> None:
        if cfg.broken:
            raise ValueError("the scene has no robot\nmore lines")
        print("tables of terms")
        self.cfg, self.device, self.num_envs = cfg, device, cfg.scene.num_envs
        self.sim = Simulation(self.num_envs)
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
        self.max_episode_length = int(cfg.episode_length_s)
        self.termination_manager = Terminations(self)
        self.observation_manager = types.SimpleNamespace(group_obs_dim={"actor": (2,), "camera": (3, 8, 8)})
        self.action_manager = types.SimpleNamespace(total_action_dim=1, action=torch.zeros(self.num_envs, 1))
        self.failures: list[bool] = []
        self.level = 0
        self.extras: dict[str, Any] = {}

    def reset(self, *, env_ids: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._reset(env_ids)
        self.sim.forward()
        return self._observed(), self.extras

    def step(self, action: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        self.action_manager.action[:] = action
        self.sim.data.qpos += action
        self.episode_length_buf += 1
        done = self.termination_manager.compute()
        failed, timed_out = self.termination_manager.terminated, self.termination_manager.time_outs
        reward = action[:, 0] * self.cfg.rewards["moved"].weight
        if done.any():
            assert self.cfg.auto_reset
            self._reset(done.nonzero().flatten())
        self.sim.forward()
        return self._observed(), reward, failed, timed_out, self.extras

    def _reset(self, env_ids: Tensor) -> None:
        self.failures += self.termination_manager.terminated[env_ids].tolist()
        self.level += 1
        self.extras = {"log": {f"level_{self.level}": 1.0}}
        self.sim.data.qpos[env_ids] = -torch.rand(len(env_ids), 1)
        self.episode_length_buf[env_ids] = 0

    def _observed(self) -> dict[str, Tensor]:
        position = self.sim.data.qpos
        return {"actor": torch.cat((position, self.sim.derived), 1), "camera": torch.zeros(1)}


@contextmanager
def installed(groups: tuple[str, ...] = ("actor",)) -> Iterator[None]:
    """Let the stand-in be what is imported as mjlab; `groups` of its observations are the actor's."""
    registry: Any = types.ModuleType("mjlab.tasks.registry")
    registry.list_tasks = lambda: [TASK]
    tasks = {TASK: EnvCfg()}
    registry.load_env_cfg = lambda name: copy.deepcopy(tasks[name])
    registry.load_rl_cfg = lambda name: types.SimpleNamespace(obs_groups={"actor": groups, "critic": ("camera",)})
    envs: Any = types.ModuleType("mjlab.envs")
    envs.ManagerBasedRlEnv = FakeEnv
    package = types.ModuleType("mjlab")
    package.__spec__ = ModuleSpec("mjlab", None)
    modules = {
        "mjlab": package, "mjlab.envs": envs, "mjlab.tasks": types.ModuleType("mjlab.tasks"),
        "mjlab.tasks.registry": registry,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        assert importlib.util.find_spec("mjlab") is not None
        yield
