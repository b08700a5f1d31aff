"""Gymnasium's MuJoCo tasks of version 5 for many worlds at once: what they observe, reward and end, and how they begin.

A task is a dataclass whose fields are the arguments of Gymnasium's environment, with its names and defaults. Its methods
are pure functions of tensors [N, ...]. Source: gymnasium.envs.mujoco, release 1.4.0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws

Range = tuple[float, float]
FASTEST = 10.0
"""What some tasks clip velocities and forces to that they observe."""
TRIES = 64
"""Of positions drawn until one is allowed; 0.38 of Pusher's are not."""


@dataclass(frozen=True)
class Scene:
    """What is seen of N worlds, B bodies and S sites; the tensors are the simulator's, which the next step fills anew.

    As in Gymnasium, what follows from positions and velocities is of the last evaluation of the dynamics within a step.

    Attributes:
        qpos: [N, nq] m and rad. qvel: [N, nv] m/s and rad/s. ctrl: [N, nu] the last actions.
        xpos: [N, B, 3] m, origins of bodies. xipos: [N, B, 3] m, their centres of mass. site_xpos: [N, S, 3] m.
        cinert: [N, B, 10]. cvel: [N, B, 6]. cfrc_ext: [N, B, 6] external forces on bodies.
        qfrc_actuator, qfrc_constraint: [N, nv] forces of actuators and of constraints.
        body_mass: [B] kg. bodies: the places of bodies by their names.
    """

    qpos: Tensor
    qvel: Tensor
    ctrl: Tensor
    xpos: Tensor
    xipos: Tensor
    site_xpos: Tensor
    cinert: Tensor
    cvel: Tensor
    cfrc_ext: Tensor
    qfrc_actuator: Tensor
    qfrc_constraint: Tensor
    body_mass: Tensor
    bodies: Mapping[str, int]

    def body(self, which: int | str) -> Tensor:
        """Return the origin [N, 3] of a body."""
        return self.xpos[:, self.bodies[which] if isinstance(which, str) else which]

    def mass_center(self) -> Tensor:
        """Return x and y [N, 2] of the centre of all masses."""
        return (self.body_mass[:, None] * self.xipos).sum(1)[:, :2] / self.body_mass.sum()


class Moved(NamedTuple):
    """What a step of N worlds did. before, after: [N, K] the task's `place`; action: [N, nu]; seconds: of the step."""

    before: Tensor
    after: Tensor
    action: Tensor
    seconds: float

    @property
    def x_velocity(self) -> Tensor:
        """[N] m/s."""
        return (self.after[:, 0] - self.before[:, 0]) / self.seconds


class Outcome(NamedTuple):
    """reward: [N]. terminated: [N] bool."""

    reward: Tensor
    terminated: Tensor


class Beginning(NamedTuple):
    """qpos [N, nq] and qvel [N, nv] with which episodes begin."""

    qpos: Tensor
    qvel: Tensor


class Task(ABC):
    """One task.

    Attributes:
        contacts: of a world, for which there is memory, on average over the worlds. rows: of constraints, at most.
        has_forces: it reads `cfrc_ext`, which takes a computation of its own.
        begins_derived: its first observation reads more than qpos and qvel.
    """

    contacts: ClassVar[int]
    rows: ClassVar[int]
    has_forces: ClassVar[bool] = False
    begins_derived: ClassVar[bool] = False

    def place(self, scene: Scene) -> Tensor:
        """Return [N, K] whose change in a step is rewarded; no columns where there is none."""
        return scene.qpos[:, :0]

    @abstractmethod
    def observation(self, scene: Scene) -> Tensor:
        """Return [N, D]."""

    @abstractmethod
    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        """Return the rewards of a step, and which worlds it ended in."""

    @abstractmethod
    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        """Return random positions and velocities around those of rest [1, ...]."""


def around(rest: Beginning, draws: Draws, scale: float, *, normal: bool = False) -> Beginning:
    """Return rest with uniform noise of [-scale, scale); that of velocities may be normal with that deviation."""
    noise = draws.uniform(rest.qpos.shape[1], -scale, scale)
    count = rest.qvel.shape[1]
    faster = scale * draws.normal(count) if normal else draws.uniform(count, -scale, scale)
    return Beginning(rest.qpos + noise, rest.qvel + faster)


def inside(values: Tensor, bounds: Range) -> Tensor:
    """Return where values lie strictly between two bounds."""
    return (values > bounds[0]) & (values < bounds[1])


def never(scene: Scene) -> Tensor:
    """Return [N] False."""
    return torch.zeros(len(scene.qpos), dtype=torch.bool, device=scene.qpos.device)


def sum_of_squares(values: Tensor) -> Tensor:
    """Return [N] of [N, ...]."""
    return values.square().flatten(1).sum(1)


@dataclass(frozen=True)
class HalfCheetah(Task):
    """HalfCheetah-v5."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    contacts = 24
    rows = 96

    def place(self, scene: Scene) -> Tensor:
        return scene.qpos[:, :1]

    def observation(self, scene: Scene) -> Tensor:
        skipped = int(self.exclude_current_positions_from_observation)
        return torch.cat((scene.qpos[:, skipped:], scene.qvel), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        cost = self.ctrl_cost_weight * sum_of_squares(moved.action)
        return Outcome(self.forward_reward_weight * moved.x_velocity - cost, never(scene))

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale, normal=True)


@dataclass(frozen=True)
class Swimmer(Task):
    """Swimmer-v5."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    contacts = 4
    rows = 16

    def place(self, scene: Scene) -> Tensor:
        return scene.qpos[:, :1]

    def observation(self, scene: Scene) -> Tensor:
        skipped = 2 * self.exclude_current_positions_from_observation
        return torch.cat((scene.qpos[:, skipped:], scene.qvel), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        cost = self.ctrl_cost_weight * sum_of_squares(moved.action)
        return Outcome(self.forward_reward_weight * moved.x_velocity - cost, never(scene))

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return around(rest, draws, self.reset_noise_scale)


class Biped(Task):
    """What Hopper and Walker2d share."""

    forward_reward_weight: float
    ctrl_cost_weight: float
    healthy_reward: float
    terminate_when_unhealthy: bool
    reset_noise_scale: float
    exclude_current_positions_from_observation: bool

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

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_state_range: Range = (-100.0, 100.0)
    healthy_z_range: Range = (0.7, inf)
    healthy_angle_range: Range = (-0.2, 0.2)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

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

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

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


class Person(Task):
    """What Humanoid and HumanoidStandup share."""

    reset_noise_scale: float
    exclude_current_positions_from_observation: bool
    include_cinert_in_observation: bool
    include_cvel_in_observation: bool
    include_qfrc_actuator_in_observation: bool
    include_cfrc_ext_in_observation: bool

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
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: Range = (-inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (1.0, 2.0)
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

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
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: Range = (-inf, 10.0)
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    timestep: ClassVar[float] = 0.003
    """Of the model, in s, by which Gymnasium divides the height."""

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        cost = (self.impact_cost_weight * sum_of_squares(scene.cfrc_ext)).clamp(*self.impact_cost_range)
        cost = cost + self.ctrl_cost_weight * sum_of_squares(moved.action)
        return Outcome(scene.qpos[:, 2] / self.timestep - cost + 1.0, never(scene))


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
        tries = draws.uniform(2 * TRIES, -self.farthest, self.farthest).unflatten(1, (TRIES, 2))
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


TASKS: Mapping[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "HumanoidStandup-v5": HumanoidStandup,
    "InvertedDoublePendulum-v5": InvertedDoublePendulum,
    "InvertedPendulum-v5": InvertedPendulum,
    "Pusher-v5": Pusher,
    "Reacher-v5": Reacher,
    "Swimmer-v5": Swimmer,
    "Walker2d-v5": Walker2d,
}
"""The tasks by the ids of Gymnasium."""
