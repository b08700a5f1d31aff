"""Let optimizers that look at the shape of a parameter step a flat vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ppolab.learning.flat_parameters import FlatParameters


class ShapedOptimizer(torch.optim.Optimizer):
    """Step the parameters of a flat vector in their own shapes, by one or several optimizers of PyTorch.

    It is used like an optimizer of the vector: `step` reads `vector.grad`, and changes the vector.

    Attributes:
        param_groups: of all optimizers, in their order.
    """

    def __init__(
        self,
        flat: FlatParameters,
        make: Callable[[Mapping[str, nn.Parameter]], Sequence[torch.optim.Optimizer]],
    ) -> None:
        super().__init__([flat.vector], {})
        self._flat = flat
        self._views = {name: nn.Parameter(view) for name, view in flat.named(flat.vector.data).items()}
        self._optimizers = tuple(make(self._views))
        self.param_groups = self._all_groups()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one step of every optimizer along the gradient of the vector."""
        assert closure is None and self._flat.vector.grad is not None
        for name, part in self._flat.named(self._flat.vector.grad).items():
            self._views[name].grad = part
        for optimizer in self._optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for optimizer, state in zip(self._optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = self._all_groups()  # loading makes new ones

    def _all_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]
