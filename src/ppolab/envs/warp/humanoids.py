"""Humanoid and HumanoidStandup of version 5 in many worlds.

A task is a dataclass whose fields are the arguments of Gymnasium's environment, with its names and defaults. Its
methods are pure functions of tensors [N, ...]. Source: gymnasium.envs.mujoco, release 1.4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.scene import Beginning, Moved, Outcome, Range, Scene, Task, around, inside, never, sum_of_squares


@dataclass(frozen=True)
class Person(Task):
    """What Humanoid and HumanoidStandup share."""

    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    contacts = 64
    rows = 256
    has_forces = True
    begins_derived = True

    def observation(self, scene: Scene) -> Tensor:
        skipped = 2 * self.exclude_current_positions_from_observation
        parts = [scene.qpos[:, skipped:], scene.qvel]
        if self.include_cinert_in_observation:
            parts.append(scene.cinert[:, 1:].flatten(1))
        if self.include_cvel_in_observation:
            parts.append(scene.cvel[:, 1:].flatten(1))
        if self.include_qfrc_actuator_in_observation:
            parts.append(scene.qfrc_actuator[:, 6:])
        if self.include_cfrc_ext_in_observation:
            parts.append(scene.cfrc_ext[:, 1:].flatten(1))
        return torch.cat(parts, 1)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale)


@dataclass(frozen=True)
class Humanoid(Person):
    """Humanoid-v5."""

    forward_reward_weight: float = 1.25
    contact_cost_weight: float = 5e-7
    contact_cost_range: Range = (-inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (1.0, 2.0)

    def place(self, scene: Scene) -> Tensor:
        return scene.mass_center()

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        healthy = inside(scene.qpos[:, 2], self.healthy_z_range)
        cost = (self.contact_cost_weight * sum_of_squares(scene.cfrc_ext)).clamp(*self.contact_cost_range)
        cost = cost + self.ctrl_cost_weight * sum_of_squares(moved.action)
        reward = self.forward_reward_weight * moved.x_velocity + self.healthy_reward * healthy - cost
        return Outcome(reward, ~healthy & self.terminate_when_unhealthy)


@dataclass(frozen=True)
class HumanoidStandup(Person):
    """HumanoidStandup-v5."""

    uph_cost_weight: float = 1.0
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: Range = (-inf, 10.0)

    timestep: ClassVar[float] = 0.003
    """Of the model, in s, by which Gymnasium divides the height."""

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        cost = (self.impact_cost_weight * sum_of_squares(scene.cfrc_ext)).clamp(*self.impact_cost_range)
        cost = cost + self.ctrl_cost_weight * sum_of_squares(moved.action)
        return Outcome(scene.qpos[:, 2] / self.timestep - cost + 1.0, never(scene))
