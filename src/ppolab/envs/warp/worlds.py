"""Episodes of a task in N worlds, on the tensors of one device: nothing here runs once per world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import torch
from torch import Tensor

from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.simulator import Simulator
from ppolab.envs.warp.tasks import Beginning, Moved, Task


class WorldStep(NamedTuple):
    """One step of N worlds. observations: [N, D]; rewards: [N]; terminated, truncated: [N] bool.

    diverged: [N] bool, worlds that were ended since a number in them was no longer finite.
    """

    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    diverged: Tensor


class Worlds:
    """N worlds of a task, which begin anew on the step after an episode's end (NEXT_STEP).

    Args:
        steps: of MuJoCo for each action. longest: actions after which an episode is truncated; None: never.
        seeds: one per world.

    Attributes:
        longest: as given.
    """

    def __init__(
        self,
        task: Task,
        model: mujoco.MjModel,
        seeds: Sequence[int],
        steps: int,
        longest: int | None,
        device: torch.device,
    ) -> None:
        self._task, self._device, self.longest = task, device, longest
        self._simulator = Simulator(
            model, len(seeds), steps, device, contacts=task.contacts, rows=task.rows, with_forces=task.has_forces
        )
        self._seconds = steps * self._simulator.timestep
        self._rest = Beginning(*(_row(values, device) for values in (model.qpos0, [0.0] * model.nv)))
        self.reseed(seeds)
        self._warm_up()

    def reseed(self, seeds: Sequence[int]) -> None:
        """Begin as new worlds with these seeds would; `reset` must follow."""
        count = len(seeds)
        self._seeds = torch.tensor(list(seeds), dtype=torch.int64, device=self._device)
        self._episodes = torch.zeros(count, dtype=torch.int64, device=self._device)
        self._taken = torch.zeros(count, dtype=torch.int64, device=self._device)
        self._ended = torch.zeros(count, dtype=torch.bool, device=self._device)
        self._place = self._task.place(self._simulator.scene).clone()
        self._observations = self._task.observation(self._simulator.scene)

    def reset(self, which: Tensor | None = None) -> Tensor:
        """Begin new episodes where `which` [N] bool, or in all worlds; return all latest observations [N, D]."""
        chosen = torch.ones_like(self._ended) if which is None else which
        self._begin(chosen)
        self._ended &= ~chosen
        return self._observations

    def step(self, actions: Tensor) -> WorldStep:
        """Take one step with actions [N, A]; those of worlds whose episode had ended are ignored."""
        task, scene = self._task, self._simulator.scene
        scene.ctrl.copy_(actions)
        self._simulator.step()
        place = task.place(scene).clone()
        reward, terminated = task.outcome(scene, Moved(self._place, place, actions, self._seconds))
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
        return WorldStep(self._observations, rewards, terminated, truncated, diverged)

    @property
    def overflow(self) -> Tensor:
        """Return [N] bool, worlds in which there was no memory for a contact, since they were made."""
        return self._simulator.overflow != 0

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that `restore` needs, on the CPU."""
        own = {name: getattr(self, f"_{name}") for name in KEPT}
        return {name: value.cpu().clone() for name, value in {**self._simulator.state, **own}.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for name, value in self._simulator.state.items():
            value.copy_(state[name])
        for name in KEPT:
            setattr(self, f"_{name}", state[name].to(self._device, copy=True))

    def _begin(self, which: Tensor) -> None:
        """Put worlds at the beginning of their next episodes where `which` [N]."""
        task, simulator = self._task, self._simulator
        scene, rows = simulator.scene, which[:, None]
        begins = task.beginning(Draws(self._seeds, self._episodes), self._rest)
        for tensor, first in zip((scene.qpos, scene.qvel), begins, strict=True):
            tensor.copy_(torch.where(rows, first.to(tensor.dtype), tensor))
        for tensor in (scene.ctrl, *(simulator.state[name] for name in ("act", "qacc_warmstart", "time"))):
            tensor.masked_fill_(rows if tensor.dim() > 1 else which, 0.0)
        if task.begins_derived:
            simulator.derive()
            scene.cfrc_ext.masked_fill_(rows[..., None], 0.0)
        self._episodes += which
        self._taken.masked_fill_(which, 0)
        self._place = torch.where(rows, task.place(scene), self._place)
        self._observations = torch.where(rows, task.observation(scene), self._observations)

    def _warm_up(self) -> None:
        """Compile all kernels now: the first time takes minutes on a processor."""
        simulator = self._simulator
        for _ in range(1 if self._device.type == "cpu" else 2):  # a GPU captures its graphs at the second call
            simulator.step()
            if self._task.begins_derived:
                simulator.derive()


KEPT = ("seeds", "episodes", "taken", "ended", "place", "observations")
"""Attributes of `Worlds` that belong to its state."""


def _row(values: Any, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[None]
