"""What a task sees of many worlds, and what it says of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws

Range = tuple[float, float]
FASTEST = 10.0
"""What some tasks clip velocities and forces to that they observe."""


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


SEEN = (
    "qpos", "qvel", "ctrl", "xpos", "xipos", "site_xpos", "cinert", "cvel", "cfrc_ext", "qfrc_actuator",
    "qfrc_constraint",
)  # fmt: skip
"""The fields of `Scene` that are the simulator's."""


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
