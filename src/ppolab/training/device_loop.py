"""Collect a rollout from environments on the network's device, without a transfer for each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.distributions import ActionDistribution
from ppolab.envs.tensor_env import TensorEnv, TensorStep, TensorSteps
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.normalization import FrozenScaling
from ppolab.training.steps import Steps


@dataclass(frozen=True)
class DeviceTurn:
    """A rollout that is to be collected on the device.

    Attributes:
        steps: to be filled; the first observations are there. scaling: as it stands.
        noise: [T, N, ...], on the device, for the actions.
    """

    steps: Steps
    scaling: FrozenScaling
    noise: Tensor


ActionParameters = Callable[[Tensor], Tensor]
"""(scaled observations [M, N, W] of M policies) -> parameters [M, N, P] of the distributions of their actions."""


def collected_on_device(env: TensorEnv, turn: DeviceTurn, policy: ActorCritic) -> tuple[Tensor, Tensor]:
    """Fill `turn.steps`; return scaled observations [T+1, N, W] and actions [T, N, ...].

    The numbers are those of `Collector._run` to rounding. What the processor keeps of them is copied once, at the end.

    Raises:
        EnvError: a number is not finite.
    """
    observations, actions = collected_together(env, [turn], policy.distribution, policy.action_parameters)
    return observations[:, 0], actions[:, 0]


def collected_together(
    env: TensorEnv, turns: Sequence[DeviceTurn], distribution: ActionDistribution, act: ActionParameters
) -> tuple[Tensor, Tensor]:
    """Do the same for M policies; return scaled observations [T+1, M, N, W] and actions [T, M, N, ...].

    Args:
        env: the N environments of the first policy, then those of the second, and so on.
    """
    noise = torch.stack([turn.noise for turn in turns], dim=1)
    members = noise.shape[1:3]
    scaling = DeviceScaling([turn.scaling for turn in turns], noise.device)
    first = np.stack([turn.steps.observations[0, :] for turn in turns])
    scaled, actions, taken = [scaling(torch.from_numpy(first).to(noise.device))], [], []
    env.begin_tensors()
    for drawn_noise in noise:
        actions.append(distribution.sample(act(scaled[-1]), drawn_noise))
        step = env.step_tensors(actions[-1].flatten(0, 1))
        taken.append(step)
        scaled.append(scaling(step.observations.view(*members, -1)))
    env.end_tensors(_filled([turn.steps for turn in turns], taken))
    return torch.stack(scaled), torch.stack(actions)


class DeviceScaling:
    """Scale raw rows [M, N, W] without images on a device, as the `FrozenScaling` of each of M policies does."""

    def __init__(self, scalings: Sequence[FrozenScaling], device: torch.device) -> None:
        assert not any(each.layout.images for each in scalings)
        self._mean = torch.from_numpy(np.stack([each.mean for each in scalings])).to(device)[:, None]
        self._inverse_std = torch.from_numpy(np.stack([each.inverse_std for each in scalings])).to(device)[:, None]
        self._limit = scalings[0].limit

    def __call__(self, raw: Tensor) -> Tensor:
        """Return rows [M, N, W] float32 for the networks."""
        scaled = (raw.double() - self._mean) * self._inverse_std
        return scaled.clamp(-self._limit, self._limit).float()


def _filled(steps: Sequence[Steps], taken: list[TensorStep]) -> TensorSteps:
    """Copy what T steps gave to the processor, to each policy's steps its own; return what the environments keep."""
    together = {
        name: _together([getattr(step, name) for step in taken])
        for name in ("observations", "rewards", "terminated", "truncated", "valid")
    }
    for index, each in enumerate(steps):
        rows = slice(index * each.rewards.shape[1], (index + 1) * each.rewards.shape[1])
        assert isinstance(each.observations, np.ndarray)
        each.observations[1:] = together["observations"][:, rows]
        each.rewards[:] = together["rewards"][:, rows]
        each.terminated[:] = together["terminated"][:, rows]
        each.truncated[:] = together["truncated"][:, rows]
        each.valid[:] = together["valid"][:, rows]
    return TensorSteps(
        together["observations"],
        together["rewards"].astype(np.float64),
        together["valid"],
        together["terminated"][-1] | together["truncated"][-1],
        int(torch.stack([step.diverged for step in taken]).sum()),
    )


def _together(tensors: list[Tensor]) -> NDArray[Any]:
    stacked: NDArray[Any] = torch.stack(tensors).cpu().numpy()
    return stacked
