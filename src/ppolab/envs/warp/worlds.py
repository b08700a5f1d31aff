"""Episodes of a task in N worlds, on the tensors of one device: nothing here runs once per world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.scene import Beginning, Moved, Scene, Task
from ppolab.envs.warp.worlds_env import WorldStep


class Simulation(Protocol):
    """What `Worlds` needs of a simulator, as `ppolab.envs.warp.simulator.Simulator` describes it."""

    scene: Scene
    state: dict[str, Tensor]
    overflow: Tensor
    rest: Beginning
    seconds: float

    def step(self) -> None:
        """Take one step of all worlds."""

    def derive(self) -> None:
        """Compute what follows from qpos and qvel."""


class Worlds:
    """N worlds of a task, which begin anew on the step after an episode's end (NEXT_STEP).

    Args:
        seeds: one per world. longest: actions after which an episode is truncated; None: never.

    Attributes:
        longest: as given.
    """

    def __init__(self, task: Task, simulation: Simulation, seeds: Sequence[int], longest: int | None) -> None:
        self._task, self._simulation, self.longest = task, simulation, longest
        self._device = simulation.scene.qpos.device
        self._seeds = torch.tensor(list(seeds), dtype=torch.int64, device=self._device)
        self._episodes = torch.zeros_like(self._seeds)
        self._taken = torch.zeros_like(self._seeds)
        self._ended = torch.zeros_like(self._seeds, dtype=torch.bool)
        self._place = task.place(simulation.scene).clone()
        self._observations = task.observation(simulation.scene)

    def reset(self, which: Tensor | None = None) -> Tensor:
        """Begin new episodes where `which` [N] bool, or in all worlds; return all latest observations [N, D]."""
        chosen = torch.ones_like(self._ended) if which is None else which
        self._begin(chosen)
        self._ended &= ~chosen
        return self._observations

    def step(self, actions: Tensor) -> WorldStep:
        """Take one step with actions [N, A]; those of worlds whose episode had ended are ignored."""
        task, scene = self._task, self._simulation.scene
        scene.ctrl.copy_(actions)
        self._simulation.step()
        place = task.place(scene).clone()
        reward, terminated = task.outcome(scene, Moved(self._place, place, actions, self._simulation.seconds))
        observations = task.observation(scene)
        finite = observations.isfinite().all(1) & reward.isfinite()
        began = self._ended
        diverged = ~finite & ~began
        self._taken += 1
        late = torch.zeros_like(began) if self.longest is None else self._taken >= self.longest
        self._place = place
        self._observations = torch.where(finite[:, None], observations, self._observations)
        terminated = (terminated | diverged) & ~began
        truncated = late & ~began
        rewards = torch.where(finite & ~began, reward, torch.zeros_like(reward))
        if self._device.type != "cpu" or bool(began.any()):  # a GPU would have to wait for the answer
            self._begin(began)
        self._ended = terminated | truncated
        return WorldStep(self._observations, rewards, terminated, truncated, ~began, diverged)

    @property
    def overflow(self) -> Tensor:
        """Return [N] bool, worlds in which there was no memory for a contact, since they were made."""
        return self._simulation.overflow != 0

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that `restore` needs, on the CPU."""
        own = {name: getattr(self, f"_{name}") for name in KEPT}
        return {name: value.cpu().clone() for name, value in {**self._simulation.state, **own}.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for name, value in self._simulation.state.items():
            value.copy_(state[name])
        for name in KEPT:
            setattr(self, f"_{name}", state[name].to(self._device, copy=True))

    def _begin(self, which: Tensor) -> None:
        """Put worlds at the beginning of their next episodes where `which` [N]."""
        task, simulation = self._task, self._simulation
        scene, rows = simulation.scene, which[:, None]
        begins = task.beginning(Draws(self._seeds, self._episodes), simulation.rest)
        for tensor, first in zip((scene.qpos, scene.qvel), begins, strict=True):
            tensor.copy_(torch.where(rows, first.to(tensor.dtype), tensor))
        for tensor in (scene.ctrl, *(simulation.state[name] for name in ("act", "qacc_warmstart", "time"))):
            tensor.masked_fill_(rows if tensor.dim() > 1 else which, 0.0)
        if task.begins_derived:
            simulation.derive()
            scene.cfrc_ext.masked_fill_(rows[..., None], 0.0)
        self._episodes += which
        self._taken.masked_fill_(which, 0)
        self._place = torch.where(rows, task.place(scene), self._place)
        self._observations = torch.where(rows, task.observation(scene), self._observations)


KEPT = ("seeds", "episodes", "taken", "ended", "place", "observations")
"""Attributes of `Worlds` that belong to its state."""
