"""State a trained policy as one PyTorch module: observations as the environment gives them, actions as it takes them.

It computes in tensors what `row_encoder`, `FrozenScaling`, the network, the mode of its distribution and
`action_decoder` compute one after another, with the same types. So it can be exported, and needs no ppolab then.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ppolab.core.masks import masked_logits
from ppolab.envs.choices import Choices, Combinations
from ppolab.envs.spaces import (
    ActionMapping,
    action_parts,
    bounds_of_image,
    box_placement,
    is_image,
    named_parts,
    of_parts,
    parts_of,
)
from ppolab.errors import ExportError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.normalization import RunningScale

OBSERVATION, ACTION = "observation", "action"
"""Names of an exported policy's input and output; the parts of a Dict are called `observation.KEY`, `action.KEY`."""
MASK = "action_mask"
"""Name of the input for the allowed actions, of a policy that has masks."""
STATE, NEXT_STATE = "state", "next_state"
"""Names of a further input and output of a policy with memory."""


def port_names(what: str, space: spaces.Space[Any]) -> list[str]:
    """Return what an exported policy calls the simple spaces in `space`, of which `what` is OBSERVATION or ACTION."""
    return [f"{what}.{place}" if place else what for place, _ in named_parts(space)]


def as_tensors(batch: Any) -> Any:
    """Return arrays of any nesting as tensors of the same types."""
    if isinstance(batch, dict):
        return {key: as_tensors(part) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(as_tensors(part) for part in batch)
    return torch.from_numpy(np.asarray(batch))


class PolicyModule(nn.Module):
    """Map a batch of raw observations to the most probable actions that are allowed.

    `forward(observation)` takes a tensor [N, ...], or a dict or tuple of them for Dict and Tuple spaces, in the types
    that the space declares, and returns actions [N, ...] in the type of the action space, those of Dict and Tuple
    spaces as dicts and tuples, too. A policy with masks also takes `action_mask` [N, A] bool, the allowed actions. With
    memory it also takes `state`, and returns actions and the next state, both states [N, K, H].

    Args:
        observation_space: of what the network sees, without a mask. policy_space: that the policy chooses from.

    Raises:
        ExportError: the action space holds numbers that PyTorch does not compute with.
    """

    def __init__(
        self,
        policy: ActorCritic,
        observation_space: spaces.Space[Any],
        policy_space: spaces.Space[Any],
        mapping: ActionMapping,
    ) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy).cpu().requires_grad_(False)  # so that actions become arrays as they are
        self.encoder = _Encoder(observation_space)
        self.scaling = _Scaling(policy.observation_scale)
        self.decoder = _decoder(policy_space, mapping)
        self.eval()

    def forward(self, observation: Any, action_mask: Tensor | None = None, state: Tensor | None = None) -> Any:
        vectors, images = self.encoder(observation)
        scaled, after = self.scaling(vectors), None
        if state is None:
            parameters = self.policy.action_parameters_of(scaled, images)
        else:
            parameters, after = self.policy.act_remembering_parts(scaled, images, state.transpose(0, 1))
        if action_mask is not None:
            parameters = masked_logits(parameters, action_mask)
        actions = self.decoder(self.policy.distribution.mode(parameters))
        return actions if after is None else (actions, after.transpose(0, 1))


# --- observations ----------------------------------------------------------------------------------------------------


class _Encoder(nn.Module):
    """Turn a batch into vectors [N, D] float64, and images, each [N, size] bytes, as `row_encoder` does.

    A discrete value outside its space is refused there, and becomes a row of zeros here.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        self._space = space
        simple = [part for _, part in named_parts(space)]
        self._is_image = [is_image(part) for part in simple]
        self.parts = nn.ModuleList(map(_part_encoder, simple))

    def forward(self, observation: Any) -> tuple[Tensor, list[Tensor]]:
        read = [encoder(value) for encoder, value in zip(self.parts, parts_of(observation, self._space), strict=True)]
        images = [values for values, picture in zip(read, self._is_image, strict=True) if picture]
        vectors = [values for values, picture in zip(read, self._is_image, strict=True) if not picture]
        if vectors:
            return torch.cat(vectors, dim=1), images
        return images[0].new_zeros((images[0].shape[0], 0), dtype=torch.float64), images


def _part_encoder(space: spaces.Space[Any]) -> nn.Module:
    if is_image(space):
        return _Bytes(space)
    if isinstance(space, spaces.Discrete):
        return _OneHot(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return _OneHot(space.nvec.reshape(-1), space.start.reshape(-1))
    assert isinstance(space, spaces.Box | spaces.MultiBinary), space
    return _Numbers(int(np.prod(space.shape)))


class _Numbers(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, values: Tensor) -> Tensor:
        return values.to(torch.float64).reshape(-1, self._size)


class _Bytes(nn.Module):
    """The bounds of numbers that are no bytes become 0 and 255."""

    low: Tensor
    steps: Tensor

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        low, steps = bounds_of_image(space)
        self._are_bytes = space.dtype == np.uint8
        self._size = low.size
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("steps", torch.from_numpy(steps))

    def forward(self, values: Tensor) -> Tensor:
        if not self._are_bytes:
            placed = (values.to(torch.float64) - self.low) * self.steps
            values = torch.round(placed.clamp(0, 255)).to(torch.uint8)
        return values.reshape(-1, self._size)


class _OneHot(nn.Module):
    """One block of columns per component; the column of its value is 1."""

    component: Tensor
    values: Tensor

    def __init__(self, sizes: NDArray[Any], starts: NDArray[Any]) -> None:
        super().__init__()
        self._components = len(sizes)
        component = np.repeat(np.arange(len(sizes)), sizes)
        value = np.concatenate([np.arange(size) for size in sizes]) + starts[component]
        self.register_buffer("component", torch.from_numpy(component))
        self.register_buffer("values", torch.from_numpy(value.astype(np.int64)))

    def forward(self, values: Tensor) -> Tensor:
        rows = values.to(torch.int64).reshape(-1, self._components)
        return (rows[:, self.component] == self.values).to(torch.float64)


class _Scaling(nn.Module):
    """Scale [N, D] float64 to network inputs float32, as `FrozenScaling` does."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, scale: RunningScale) -> None:
        super().__init__()
        frozen = scale.frozen()
        self._enabled, self._limit = scale.enabled, frozen.limit
        # copies: torch.export.save fails for an empty buffer, as of images alone, in the memory of an array
        self.register_buffer("mean", torch.tensor(frozen.mean))
        self.register_buffer("inverse_std", torch.tensor(frozen.inverse_std))

    def forward(self, observations: Tensor) -> Tensor:
        if self._enabled:
            scaled = (observations - self.mean) * self.inverse_std
            observations = scaled.clamp(-self._limit, self._limit)
        return observations.to(torch.float32)


# --- actions ---------------------------------------------------------------------------------------------------------


def _decoder(space: spaces.Space[Any], mapping: ActionMapping) -> nn.Module:
    """Return the module that does what `action_decoder` does."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _Parts(space, mapping)
    if isinstance(space, Combinations):
        return _Combined(space)
    if isinstance(space, Choices):
        return _Shifted(space.environments.shape, space.lowest, space.environments.dtype)
    if isinstance(space, spaces.Box):
        return (_IntegerBox if np.issubdtype(space.dtype, np.integer) else _Box)(space, mapping)
    if isinstance(space, spaces.Discrete):
        return _Shifted((), np.array([space.start]), space.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        return _Shifted(space.shape, space.start, space.dtype)
    assert isinstance(space, spaces.MultiBinary), space
    return _Shifted(space.shape, np.zeros(space.shape, dtype=np.int64), np.dtype(np.int8))


class _Parts(nn.Module):
    """Cut a row into the parts of a Dict or Tuple."""

    def __init__(self, space: spaces.Space[Any], mapping: ActionMapping) -> None:
        super().__init__()
        parts = action_parts(space)
        self._space = space
        self._columns = [part.columns for part in parts]
        self._types = [torch.float32 if isinstance(part.space, spaces.Box) else torch.int64 for part in parts]
        self.decoders = nn.ModuleList(_decoder(part.space, mapping) for part in parts)

    def forward(self, rows: Tensor) -> Any:
        places = zip(self.decoders, self._columns, self._types, strict=True)
        return of_parts((decoder(rows[:, columns].to(kind)) for decoder, columns, kind in places), self._space)


class _Shifted(nn.Module):
    """Add the start of a space with whole numbers."""

    start: Tensor

    def __init__(self, shape: tuple[int, ...], start: NDArray[Any], dtype: Any) -> None:
        super().__init__()
        self._shape, self._dtype = shape, torch_type(dtype)
        self.register_buffer("start", torch.from_numpy(start.astype(np.int64)))

    def forward(self, actions: Tensor) -> Tensor:
        return (actions + self.start).to(self._dtype).reshape(-1, *self._shape)


class _Combined(nn.Module):
    """Take a choice among combinations apart."""

    strides: Tensor
    sizes: Tensor

    def __init__(self, space: Combinations) -> None:
        super().__init__()
        strides = np.cumprod((1, *space.sizes[:0:-1]))[::-1].copy()
        self.register_buffer("strides", torch.from_numpy(strides))
        self.register_buffer("sizes", torch.tensor(space.sizes))
        assert space.environments.shape is not None
        self.shifted = _Shifted(space.environments.shape, space.lowest, space.environments.dtype)

    def forward(self, actions: Tensor) -> Tensor:
        """`actions` is [N, 1]."""
        actions = torch.div(actions, self.strides, rounding_mode="floor") % self.sizes
        result: Tensor = self.shifted(actions)
        return result


class _Box(nn.Module):
    """Place a Gaussian's actions in a Box of floating numbers, and clip them to its bounds."""

    bounded: Tensor
    centre: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box, mapping: ActionMapping) -> None:
        super().__init__()
        place = box_placement(space, mapping)
        self._squash, self._shape, self._dtype = mapping.squash, space.shape, torch_type(space.dtype)
        for name in ("bounded", "centre", "radius", "low", "high"):
            self.register_buffer(name, torch.from_numpy(getattr(place, name)))

    def forward(self, actions: Tensor) -> Tensor:
        placed = self._placed(actions)
        bounded = torch.minimum(torch.maximum(placed, self.low.to(placed.dtype)), self.high.to(placed.dtype))
        return bounded.to(self._dtype).reshape(-1, *self._shape)

    def _placed(self, actions: Tensor) -> Tensor:
        chosen = torch.where(self.bounded, torch.tanh(actions), actions) if self._squash else actions
        return chosen * self.radius + self.centre


class _IntegerBox(_Box):
    """The same with the nearest whole numbers; values beyond a bound never pass the conversion."""

    def __init__(self, space: spaces.Box, mapping: ActionMapping) -> None:
        super().__init__(space, mapping)
        if (space.high > np.iinfo(np.int64).max).any():  # of uint64, with which PyTorch does not compute
            raise ExportError(f"the action space {space}: PyTorch computes with whole numbers below 2**63 only")
        self.low, self.high = self.low.to(torch.int64), self.high.to(torch.int64)

    def forward(self, actions: Tensor) -> Tensor:
        rounded = torch.round(self._placed(actions.to(torch.float64)))
        low, high = self.low.to(torch.float64), self.high.to(torch.float64)
        inside = (rounded > low) & (rounded < high)
        whole = torch.where(inside, rounded, torch.zeros_like(rounded)).to(torch.int64)
        nearest = torch.where(inside, whole, torch.where(rounded >= high, self.high, self.low))
        return nearest.to(self._dtype).reshape(-1, *self._shape)


def torch_type(dtype: Any) -> torch.dtype:
    """Return the type of a tensor that holds what an array of `dtype` holds."""
    return torch.from_numpy(np.zeros(1, dtype=dtype)).dtype
