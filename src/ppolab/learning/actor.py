"""State what a policy in C++ offers to who collects and evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppolab.learning.normalization import FrozenScaling


@dataclass(frozen=True)
class Answer:
    """Hold what a step of a policy with memory changes and fills.

    Attributes:
        state: [K, N, H] before the step, and then after it; with the actor's rows alone where no values are wanted.
        outputs: [N, A] of the action head. values: [N].
    """

    state: Tensor
    outputs: Tensor
    values: Tensor | None = None


class Actor(Protocol):
    """The part of a policy in C++ that collecting and evaluating need."""

    def __call__(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (distribution parameters [..., P], values [...]) for observations [..., D], as `ActorCritic` does."""

    def action_parameters(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Tensor:
        """Return the distribution parameters [..., P] alone."""

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Return the distribution parameters [..., P] that the outputs [..., A] of the action head mean."""

    def prepare(self) -> None:
        """Get ready for steps with memory; needed again when the parameters have changed."""

    def act(
        self,
        raw: NDArray[np.float64],
        scaling: FrozenScaling,
        noise: Tensor | None,
        observations: Tensor,
        actions: Tensor,
        masks: Tensor | None = None,
        answer: Answer | None = None,
    ) -> None:
        """Act as the function `act` of the collector does with a policy in PyTorch; without noise, as `mode` does."""
