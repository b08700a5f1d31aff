"""State what a policy in C++ offers to who collects and evaluates."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppolab.learning.normalization import FrozenScaling


class Actor(Protocol):
    """The part of a policy in C++ that collecting and evaluating need."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return (distribution parameters [..., P], values [...]) for observations [..., D]."""

    def action_parameters(self, observations: Tensor) -> Tensor:
        """Return the distribution parameters [..., P] alone."""

    def act(
        self,
        raw: NDArray[np.float64],
        scaling: FrozenScaling,
        noise: Tensor | None,
        observations: Tensor,
        actions: Tensor,
        masks: Tensor | None = None,
    ) -> None:
        """Act as the function `act` of the collector does with a policy in PyTorch; without noise, as `mode` does."""
