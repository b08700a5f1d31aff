"""Collect a rollout from environments on the network's device, without a transfer for each step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.envs.tensor_env import TensorEnv, TensorStep, TensorSteps
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.normalization import FrozenScaling
from ppolab.training.acting import drawn
from ppolab.training.steps import Steps


def collected_on_device(env: TensorEnv, steps: Steps, policy: ActorCritic, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Fill `steps`, whose first observations are there; return scaled observations [T+1, N, W] and actions [T, N, ...].

    The numbers are those of `Collector._run` to rounding. What the processor keeps of them is copied once, at the end.

    Args:
        noise: [T, N, ...], on the device of `env` and `policy`.

    Raises:
        EnvError: a number is not finite.
    """
    assert isinstance(steps.observations, np.ndarray)
    device = noise.device
    scaling = DeviceScaling(policy.scaling, device)
    raw = torch.from_numpy(steps.observations[0]).to(device)
    scaled, actions, taken = [scaling(raw)], [], []
    env.begin_tensors()
    for drawn_noise in noise:
        actions.append(drawn(policy, policy.action_parameters(scaled[-1]), drawn_noise, None))
        step = env.step_tensors(actions[-1])
        taken.append(step)
        scaled.append(scaling(step.observations))
    _fill(steps, taken)
    last = taken[-1]
    env.end_tensors(
        TensorSteps(
            steps.observations[1:],
            steps.rewards,
            steps.valid,
            (last.terminated | last.truncated).cpu().numpy(),
            int(torch.stack([step.diverged for step in taken]).sum()),
        )
    )
    return torch.stack(scaled), torch.stack(actions)


class DeviceScaling:
    """Scale raw rows [N, W] on a device as `FrozenScaling` does, for rows without images."""

    def __init__(self, scaling: FrozenScaling, device: torch.device) -> None:
        assert not scaling.layout.images
        self._mean = torch.from_numpy(scaling.mean).to(device)
        self._inverse_std = torch.from_numpy(scaling.inverse_std).to(device)
        self._limit = scaling.limit

    def __call__(self, raw: Tensor) -> Tensor:
        """Return rows [N, W] float32 for the network."""
        scaled = (raw.double() - self._mean) * self._inverse_std
        return scaled.clamp(-self._limit, self._limit).float()


def _fill(steps: Steps, taken: list[TensorStep]) -> None:
    """Copy what T steps gave to the processor."""
    assert isinstance(steps.observations, np.ndarray)
    steps.observations[1:] = _together([step.observations for step in taken])
    steps.rewards[:] = _together([step.rewards for step in taken])
    steps.terminated[:] = _together([step.terminated for step in taken])
    steps.truncated[:] = _together([step.truncated for step in taken])
    steps.valid[:] = _together([step.valid for step in taken])


def _together(tensors: list[Tensor]) -> NDArray[np.float64]:
    stacked: NDArray[np.float64] = torch.stack(tensors).cpu().numpy()
    return stacked
