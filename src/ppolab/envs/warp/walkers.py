"""HalfCheetah, Swimmer, Hopper, Walker2d and Ant of version 5 in many worlds.

A task is a dataclass whose fields are the arguments of Gymnasium's environment, with its names and defaults. Its
methods are pure functions of tensors [N, ...]. Source: gymnasium.envs.mujoco, release 1.4.0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.scene import (
    FASTEST,
    Beginning,
    Moved,
    Outcome,
    Range,
    Scene,
    Task,
    around,
    inside,
    never,
    sum_of_squares,
)


@dataclass(frozen=True)
class Crawler(Task):
    """What HalfCheetah and Swimmer share: no posture of theirs ends an episode."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    unseen: ClassVar[int] = 1
    """Coordinates of the root that an observation may leave out."""

    def place(self, scene: Scene) -> Tensor:
        return scene.qpos[:, :1]

    def observation(self, scene: Scene) -> Tensor:
        skipped = self.unseen * self.exclude_current_positions_from_observation
        return torch.cat((scene.qpos[:, skipped:], scene.qvel), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        cost = self.ctrl_cost_weight * sum_of_squares(moved.action)
        return Outcome(self.forward_reward_weight * moved.x_velocity - cost, never(scene))


@dataclass(frozen=True)
class HalfCheetah(Crawler):
    """HalfCheetah-v5."""

    contacts = 24
    rows = 96

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale, normal=True)


@dataclass(frozen=True)
class Swimmer(Crawler):
    """Swimmer-v5."""

    ctrl_cost_weight: float = 1e-4

    contacts = 4
    rows = 16
    unseen = 2

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale)


@dataclass(frozen=True)
class Biped(Task):
    """What Hopper and Walker2d share."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    @abstractmethod
    def healthy(self, scene: Scene) -> Tensor:
        """Return [N] bool."""

    def place(self, scene: Scene) -> Tensor:
        return scene.qpos[:, :1]

    def observation(self, scene: Scene) -> Tensor:
        skipped = int(self.exclude_current_positions_from_observation)
        return torch.cat((scene.qpos[:, skipped:], scene.qvel.clamp(-FASTEST, FASTEST)), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        healthy = self.healthy(scene)
        cost = self.ctrl_cost_weight * sum_of_squares(moved.action)
        reward = self.forward_reward_weight * moved.x_velocity + self.healthy_reward * healthy - cost
        return Outcome(reward, ~healthy & self.terminate_when_unhealthy)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale)


@dataclass(frozen=True)
class Hopper(Biped):
    """Hopper-v5."""

    healthy_state_range: Range = (-100.0, 100.0)
    healthy_z_range: Range = (0.7, inf)
    healthy_angle_range: Range = (-0.2, 0.2)

    contacts = 16
    rows = 64

    def healthy(self, scene: Scene) -> Tensor:
        state = torch.cat((scene.qpos[:, 2:], scene.qvel), 1)
        return (
            inside(state, self.healthy_state_range).all(1)
            & inside(scene.qpos[:, 1], self.healthy_z_range)
            & inside(scene.qpos[:, 2], self.healthy_angle_range)
        )


@dataclass(frozen=True)
class Walker2d(Biped):
    """Walker2d-v5."""

    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)

    contacts = 24
    rows = 96

    def healthy(self, scene: Scene) -> Tensor:
        return inside(scene.qpos[:, 1], self.healthy_z_range) & inside(scene.qpos[:, 2], self.healthy_angle_range)


@dataclass(frozen=True)
class Ant(Task):
    """Ant-v5."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (0.2, 1.0)
    contact_force_range: Range = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    contacts = 32
    rows = 128
    has_forces = True
    begins_derived = True

    def place(self, scene: Scene) -> Tensor:
        return scene.body(self.main_body)[:, :2]

    def _forces(self, scene: Scene) -> Tensor:
        return scene.cfrc_ext.clamp(*self.contact_force_range)

    def observation(self, scene: Scene) -> Tensor:
        skipped = 2 * self.exclude_current_positions_from_observation
        parts = [scene.qpos[:, skipped:], scene.qvel]
        if self.include_cfrc_ext_in_observation:
            parts.append(self._forces(scene)[:, 1:].flatten(1))
        return torch.cat(parts, 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        state = torch.cat((scene.qpos, scene.qvel), 1)
        height = scene.qpos[:, 2]
        healthy = state.isfinite().all(1) & (height >= self.healthy_z_range[0]) & (height <= self.healthy_z_range[1])
        cost = self.ctrl_cost_weight * sum_of_squares(moved.action)
        cost = cost + self.contact_cost_weight * sum_of_squares(self._forces(scene))
        reward = self.forward_reward_weight * moved.x_velocity + self.healthy_reward * healthy - cost
        return Outcome(reward, ~healthy & self.terminate_when_unhealthy)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale, normal=True)
