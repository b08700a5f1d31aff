"""Optimizers as a user writes them, for `optimizer.class=sample_optimizers:NAME`; most cannot train in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """Steps of one size along the sign of a running mean: Chen et al. 2023 (arXiv:2302.06675)."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        if not 0 <= betas[0] < 1:
            raise ValueError("betas[0] must be at least 0 and less than 1")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change every parameter in place."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._step(parameter, group)

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient, (slow, slower) = self.state[parameter], parameter.grad, group["betas"]
        assert gradient is not None
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(state["mean"].lerp(gradient, 1 - slow).sign_(), alpha=-group["lr"])
        state["mean"].lerp_(gradient, 1 - slower)


class BreaksLate(Lion):
    """Raises at a step that no trial makes."""

    steps = 0

    def step(self, closure: Any = None) -> None:
        """Raise at the tenth step."""
        self.steps += 1
        if self.steps == 10:
            raise LookupError("no such direction\nin this space")
        super().step()


class FlatBreaksLate(BreaksLate):
    """The same, on all parameters as one vector."""

    elementwise = True


class FlatLion(Lion):
    """The same, on all parameters as one vector."""

    elementwise = True


class Muon(Lion):
    """Has the name of an optimizer of PyTorch's."""


class Normalized(Lion):
    """A step that depends on the norm of a parameter's gradient, hence on shapes."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        parameter.sub_(parameter.grad / (parameter.grad.norm() + 1e-8) * group["lr"])


class Anything(Lion):
    """Takes whatever it is given."""

    def __init__(self, params: Any, lr: float, **others: Any) -> None:
        super().__init__(params, lr)
        self.others = others


class Noisy(Lion):
    """Draws random numbers, of which a checkpoint holds the generator's state."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        super()._step(parameter, group)
        parameter.add_(torch.randn_like(parameter), alpha=1e-3 * group["lr"])


# --- what cannot train -----------------------------------------------------------------------------------------------


class NeedsClosure(Lion):
    """Wants the loss again."""

    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        return closure()


class Raises(Lion):
    """Raises at the first step."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        raise RuntimeError("wants sparse gradients")


class Rebinds(Lion):
    """Puts new tensors in place of parameters."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        parameter.data = parameter.data - group["lr"] * parameter.grad


class WithoutRate(Lion):
    """Has no learning rate in its groups."""

    def __init__(self, params: Any, lr: float) -> None:
        Optimizer.__init__(self, params, {})


class Explodes(Lion):
    """Divides by zero."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        parameter.div_(0.0)


class Unstorable(Lion):
    """Keeps a function in its state."""

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        super()._step(parameter, group)
        self.state[parameter]["schedule"] = Lion


class CountsElsewhere(Lion):
    """Keeps a count where no checkpoint looks."""

    count = 0

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        self.count += 1
        parameter.sub_(parameter.grad, alpha=group["lr"] / self.count)


def no_class(params: Any) -> None:
    """Is a function."""
