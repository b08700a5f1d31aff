"""All parameters of a network as one contiguous vector.

Small networks are bound by the cost per operation, not by arithmetic: one norm, one optimizer call, one all-reduce on
one vector replace a dozen of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from ppolab.config import Config, optimizer_class
from ppolab.errors import ConfigError


@dataclass(frozen=True)
class FlatParameters:
    """One vector and the way back to named parameters.

    Attributes:
        vector: [P] the leaf that an optimizer steps. The module's parameters are views of it.
        names, shapes: of the parameters, in the vector's order.
    """

    vector: nn.Parameter
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of `vector` [P] under the module's parameter names; differentiable with respect to it."""
        return _named(vector, self.names, self.shapes)

    def slice_of(self, name: str) -> slice:
        """Where the parameter `name` lies in the vector."""
        index = self.names.index(name)
        start = sum(shape.numel() for shape in self.shapes[:index])
        return slice(start, start + self.shapes[index].numel())


@dataclass(frozen=True)
class Part:
    """Some of the parameters, as a vector [K] of their own: a copy.

    Attributes:
        names, shapes: of the parameters, in the vector's order. places: [K] where its elements are in the whole vector.
    """

    flat: FlatParameters
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    places: Tensor

    def read(self) -> Tensor:
        """[K] as they are now."""
        return self.flat.vector.detach()[self.places]

    def write(self, vector: Tensor) -> None:
        """Make them `vector` [K]."""
        self.flat.vector.data[self.places] = vector

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of `vector` [K] under the parameters' names; differentiable with respect to it."""
        return _named(vector, self.names, self.shapes)


def part_of(flat: FlatParameters, names: Sequence[str]) -> Part:
    """The parameters of these names."""
    slices = [flat.slice_of(name) for name in names]
    places = torch.cat([torch.arange(part.start, part.stop) for part in slices]).to(flat.vector.device)
    return Part(flat, tuple(names), tuple(flat.shapes[flat.names.index(name)] for name in names), places)


def _named(vector: Tensor, names: Sequence[str], shapes: Sequence[torch.Size]) -> dict[str, Tensor]:
    parts = torch.split(vector, [shape.numel() for shape in shapes])
    return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}


def flatten_parameters(module: nn.Module) -> FlatParameters:
    """Re-point every parameter of `module` at a slice of one new vector with the same values.

    The module goes on working as before: `state_dict`, `load_state_dict` (which copies in place) and `forward` see the
    vector's values. Moving the module to another device afterwards would break the sharing, so move it first.
    """
    named = dict(module.named_parameters())
    vector = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in named.values()]))
    flat = FlatParameters(vector, tuple(named), tuple(parameter.shape for parameter in named.values()))
    for name, view in flat.named(vector.data).items():
        named[name].data = view
    return flat


def clip_norm(gradient: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """(`gradient` scaled down, where needed, to Euclidean norm `max_norm`; its norm before that, []).

    Pascanu et al. 2013 (arXiv:1211.5063), algorithm 1. `max_norm` 0 leaves the gradient alone.
    """
    norm: Tensor = gradient.norm()
    if max_norm == 0:
        return gradient, norm
    if norm.is_cpu:  # reading it costs less than the four operations below; on a GPU it would wait for the device
        value = float(norm)
        return (gradient * (max_norm / (value + 1e-6)) if value > max_norm else gradient), norm
    return gradient * (max_norm / (norm + 1e-6)).clamp(max=1.0), norm


def make_optimizer(config: Config, parameter: torch.Tensor) -> torch.optim.Optimizer:
    """The configured optimizer of one tensor; raises ConfigError when there is none, or it takes other settings."""
    arguments = {key: value for key, value in config.optimizer.items() if key != "_target_"}
    try:
        optimizer: torch.optim.Optimizer = optimizer_class(config)([parameter], **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        target = config.optimizer["_target_"]
        raise ConfigError(f"optimizer: {target} does not take these settings: {error}") from error
    return optimizer


def optimizer_step(optimizer: torch.optim.Optimizer, vector: nn.Parameter) -> Callable[[Tensor], None]:
    """A function that steps `vector` along a gradient [P] as `optimizer.step()` would.

    For plain fused Adam and AdamW it calls PyTorch's functional form on the optimizer's own state, because preparing
    the call of one small tensor takes `step` longer than the arithmetic.
    """

    def through_step(gradient: Tensor) -> None:
        vector.grad = gradient
        optimizer.step()

    @torch.no_grad()
    def direct(gradient: Tensor) -> None:
        group, state = optimizer.param_groups[0], optimizer.state[vector]
        if not state:  # the first step creates it
            return through_step(gradient)
        beta1, beta2 = group["betas"]
        return adam(
            [vector], [gradient], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            fused=True, amsgrad=False, maximize=group["maximize"], beta1=beta1, beta2=beta2, lr=group["lr"],
            eps=group["eps"], weight_decay=group["weight_decay"],
            decoupled_weight_decay=group["decoupled_weight_decay"],
        )  # fmt: skip

    return direct if is_adam(optimizer) else through_step


def is_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its state and steps are those of PyTorch's Adam or AdamW, fused, without amsgrad."""
    group = optimizer.param_groups[0]
    known = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    return known and bool(group["fused"]) and not group["amsgrad"]
