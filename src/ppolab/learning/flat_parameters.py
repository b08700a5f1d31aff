"""Keep all parameters of a network in one contiguous vector.

Small networks are bound by the cost per operation, not by arithmetic: one norm, one optimizer call, one all-reduce on
one vector replace a dozen of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FlatParameters:
    """One vector and the way back to named parameters.

    Attributes:
        vector: [P] the leaf that an optimizer steps. The module's parameters are views of it.
        names, shapes: of the parameters, in the vector's order.
        aliases: further names of parameters that the module has under several, and the one in `names`.
    """

    vector: nn.Parameter
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of `vector` [P] under the module's parameter names; differentiable with respect to it."""
        return _named(vector, self.names, self.shapes)

    def substitutes(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the same under all names, for `functional_call(..., tie_weights=False)`.

        With `tie_weights=True`, PyTorch leaves the views in a layer that has two names
        (findings/functional_call_and_a_layer_of_two_names.sh).
        """
        return self.with_aliases(self.named(vector))

    def with_aliases(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `named` and the same tensors under their further names."""
        return {**named, **{alias: named[name] for alias, name in self.aliases.items() if name in named}}

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

    def substitutes(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of `vector` [K] under all names of the parameters; as `FlatParameters.substitutes`."""
        return FlatParameters(self.flat.vector, self.names, self.shapes, self.flat.aliases).substitutes(vector)


def parameter_subset(flat: FlatParameters, names: Sequence[str]) -> ParameterSubset:
    """Return the parameters of these names."""
    slices = [flat.slice_of(name) for name in names]
    places = torch.cat([torch.arange(part.start, part.stop) for part in slices]).to(flat.vector.device)
    return ParameterSubset(flat, tuple(names), tuple(flat.shapes[flat.names.index(name)] for name in names), places)


def _named(vector: Tensor, names: Sequence[str], shapes: Sequence[torch.Size]) -> dict[str, Tensor]:
    parts = torch.split(vector, [shape.numel() for shape in shapes])
    return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}


def flatten_parameters(module: nn.Module) -> FlatParameters:
    """Re-point every parameter of `module` that is to be trained at a slice of one new vector with the same values.

    Parameters without `requires_grad` stay where they are, and are not part of the vector.
    The module goes on working as before: `state_dict`, `load_state_dict` (which copies in place) and `forward` see the
    vector's values. Moving the module to another device afterwards would break the sharing, so move it first.
    """
    named = {name: each for name, each in module.named_parameters() if each.requires_grad}
    vector = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in named.values()]))
    shapes = tuple(parameter.shape for parameter in named.values())
    flat = FlatParameters(vector, tuple(named), shapes, _aliases(module, named))
    for name, view in flat.named(vector.data).items():
        named[name].data = view
    return flat


def _aliases(module: nn.Module, named: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """Return the further names of parameters that several modules have; a module with two names counts once.

    `functional_call` would put back what it had itself put into the module, were this given under both names.
    """
    first = {id(parameter): name for name, parameter in named.items()}
    found = {}
    for prefix, part in module.named_modules():
        for key, parameter in part.named_parameters(prefix, recurse=False, remove_duplicate=False):
            if key not in named and id(parameter) in first:
                found[key] = first[id(parameter)]
    return found
