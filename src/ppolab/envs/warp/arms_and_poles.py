"""Reacher, Pusher and the inverted pendulums of version 5 in many worlds.

A task is a dataclass whose fields are the arguments of Gymnasium's environment, with its names and defaults. Its
methods are pure functions of tensors [N, ...]. Source: gymnasium.envs.mujoco, release 1.4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.scene import FASTEST, Beginning, Moved, Outcome, Scene, Task, around, never, sum_of_squares

TRIES = 64
"""Of positions drawn until one is allowed; 0.38 of Pusher's are not."""


@dataclass(frozen=True)
class Reacher(Task):
    """Reacher-v5."""

    reward_dist_weight: float = 1.0
    reward_control_weight: float = 1.0

    contacts = 8
    rows = 32
    begins_derived = True
    farthest: ClassVar[float] = 0.2
    """Of a goal from the middle, in m."""

    def _distance(self, scene: Scene) -> Tensor:
        return scene.body("fingertip") - scene.body("target")

    def observation(self, scene: Scene) -> Tensor:
        angles = scene.qpos[:, :2]
        near = self._distance(scene)[:, :2]
        return torch.cat((angles.cos(), angles.sin(), scene.qpos[:, 2:], scene.qvel[:, :2], near), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        far = self.reward_dist_weight * self._distance(scene).norm(dim=1)
        return Outcome(-far - self.reward_control_weight * sum_of_squares(moved.action), never(scene))

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        qpos = rest.qpos + draws.uniform(rest.qpos.shape[1], -0.1, 0.1)
        tries = draws.uniform(2 * TRIES, -self.farthest, self.farthest).view(-1, TRIES, 2)
        goal = first_allowed(tries, tries.norm(dim=2) < self.farthest)
        qvel = rest.qvel + draws.uniform(rest.qvel.shape[1], -0.005, 0.005)
        still = torch.zeros_like(qvel[:, -2:])
        return Beginning(torch.cat((qpos[:, :-2], goal), 1), torch.cat((qvel[:, :-2], still), 1))


@dataclass(frozen=True)
class Pusher(Task):
    """Pusher-v5."""

    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1.0
    reward_control_weight: float = 0.1

    contacts = 16
    rows = 64
    begins_derived = True
    nearest: ClassVar[float] = 0.17
    """Of the object to the goal at the start, in m."""

    def observation(self, scene: Scene) -> Tensor:
        seen = [scene.body(name) for name in ("tips_arm", "object", "goal")]
        return torch.cat((scene.qpos[:, :7], scene.qvel[:, :7], *seen), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        near = (scene.body("object") - scene.body("tips_arm")).norm(dim=1)
        far = (scene.body("object") - scene.body("goal")).norm(dim=1)
        effort = sum_of_squares(moved.action)
        reward = -self.reward_near_weight * near - self.reward_dist_weight * far - self.reward_control_weight * effort
        return Outcome(reward, never(scene))

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        x, y = draws.uniform(TRIES, -0.3, 0.0), draws.uniform(TRIES, -0.2, 0.2)
        tries = torch.stack((x, y), 2)
        place = first_allowed(tries, tries.norm(dim=2) > self.nearest)
        qvel = rest.qvel + draws.uniform(rest.qvel.shape[1], -0.005, 0.005)
        qpos = rest.qpos[:, :-4].expand(len(place), -1)
        goal = torch.zeros_like(place)
        return Beginning(
            torch.cat((qpos, place, goal), 1), torch.cat((qvel[:, :-4], torch.zeros_like(qvel[:, -4:])), 1)
        )


def first_allowed(tries: Tensor, allowed: Tensor) -> Tensor:
    """Return [N, K], the first of T tries [N, T, K] that is allowed [N, T]; the first one where none is."""
    chosen = allowed.to(torch.uint8).argmax(1)
    return tries[torch.arange(len(tries), device=tries.device), chosen]


@dataclass(frozen=True)
class InvertedPendulum(Task):
    """InvertedPendulum-v5."""

    reset_noise_scale: float = 0.01

    contacts = 4
    rows = 16
    steepest: ClassVar[float] = 0.2
    """Angle of the pole, in rad."""

    def observation(self, scene: Scene) -> Tensor:
        return torch.cat((scene.qpos, scene.qvel), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        finite = self.observation(scene).isfinite().all(1)
        terminated = ~finite | (scene.qpos[:, 1].abs() > self.steepest)
        return Outcome((~terminated).to(scene.qpos.dtype), terminated)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale)


@dataclass(frozen=True)
class InvertedDoublePendulum(Task):
    """InvertedDoublePendulum-v5."""

    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1

    contacts = 4
    rows = 16
    begins_derived = True

    def observation(self, scene: Scene) -> Tensor:
        angles = scene.qpos[:, 1:]
        velocities = scene.qvel.clamp(-FASTEST, FASTEST)
        force = scene.qfrc_constraint[:, :1].clamp(-FASTEST, FASTEST)
        return torch.cat((scene.qpos[:, :1], angles.sin(), angles.cos(), velocities, force), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        x, y = scene.site_xpos[:, 0, 0], scene.site_xpos[:, 0, 2]
        terminated = y <= 1.0
        aside = 0.01 * x.square() + (y - 2.0).square()
        swinging = 1e-3 * scene.qvel[:, 1].square() + 5e-3 * scene.qvel[:, 2].square()
        return Outcome(self.healthy_reward * ~terminated - aside - swinging, terminated)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale, normal=True)
