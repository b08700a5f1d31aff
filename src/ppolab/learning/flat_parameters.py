"""Keep all parameters of a network in one contiguous vector.

Small networks are bound by the cost per operation, not by arithmetic: one norm, one optimizer call, one all-reduce on
one vector replace a dozen of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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
        """Return views of `vector` [P] under the module's parameter names; differentiable with respect to it."""
        return _named(vector, self.names, self.shapes)

    def slice_of(self, name: str) -> slice:
        """Return where the parameter `name` lies in the vector."""
        index = self.names.index(name)
        start = sum(shape.numel() for shape in self.shapes[:index])
        return slice(start, start + self.shapes[index].numel())


@dataclass(frozen=True)
class ParameterSubset:
    """Some of the parameters, read and written as a vector [K] of their own.

    Attributes:
        names, shapes: of the parameters, in the vector's order. places: [K] where its elements are in the whole vector.
    """

    flat: FlatParameters
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    places: Tensor

    def read(self) -> Tensor:
        """Return the parameters [K] as they are now."""
        return self.flat.vector.detach()[self.places]

    def write(self, vector: Tensor) -> None:
        """Make them `vector` [K]."""
        self.flat.vector.data[self.places] = vector

    def copied(self) -> FlatParameters:
        """Return a copy that an optimizer of its own can step."""
        return FlatParameters(nn.Parameter(self.read()), self.names, self.shapes)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of `vector` [K] under the parameters' names; differentiable with respect to it."""
        return _named(vector, self.names, self.shapes)


def parameter_subset(flat: FlatParameters, names: Sequence[str]) -> ParameterSubset:
    """Return the parameters of these names."""
    slices = [flat.slice_of(name) for name in names]
    places = torch.cat([torch.arange(part.start, part.stop) for part in slices]).to(flat.vector.device)
    return ParameterSubset(flat, tuple(names), tuple(flat.shapes[flat.names.index(name)] for name in names), places)


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
