"""What a collector needs of environments that are simulated on the device of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class TensorSteps:
    """What T steps of N environments gave, once they are on the processor.

    Attributes:
        observations: [T, N, W] after each. rewards: [T, N]. valid: [T, N] bool, the steps that did not only reset.
        ended: [N] bool, after the last one. diverged: how many worlds did in all steps.
    """

    observations: NDArray[Any]
    rewards: NDArray[np.float64]
    valid: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    diverged: int


class TensorStep(Protocol):
    """One step, as `ppolab.envs.warp.worlds_env.WorldStep` describes it."""

    @property
    def observations(self) -> Tensor: ...
    @property
    def rewards(self) -> Tensor: ...
    @property
    def terminated(self) -> Tensor: ...
    @property
    def truncated(self) -> Tensor: ...
    @property
    def valid(self) -> Tensor: ...
    @property
    def diverged(self) -> Tensor: ...


class TensorEnv(Protocol):
    """Environments that take and give tensors, between `begin_tensors` and `end_tensors`."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""

    def begin_tensors(self) -> None:
        """Let the steps that follow be taken by `step_tensors`."""

    def step_tensors(self, actions: Tensor) -> TensorStep:
        """Take one step with the policy's actions [N, ...]."""

    def end_tensors(self, taken: TensorSteps) -> None:
        """Go on from the steps that were taken."""
