"""Observations of Gymnasium's spaces to rows, and policy outputs back to actions."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.core.observation_rows import ImagePart, RowLayout, VectorPart
from ppolab.envs.choices import Choices, Combinations
from ppolab.errors import ConfigError, EnvError

log = logging.getLogger(__name__)
Encoder = Callable[[Any], NDArray[Any]]
Decoder = Callable[[NDArray[Any]], Any]

SUPPORTED_OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, and Tuple or Dict of these"
SUPPORTED_ACTIONS = "Box of finite size, Discrete, MultiDiscrete or MultiBinary of rank 1, and Tuple or Dict of these"
ACTION_KINDS = (spaces.Discrete | spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
"""The order of parts in a policy's action. All of one kind are of one distribution, see `action_distribution`."""


class UnreadableError(EnvError):
    """An observation of a batch cannot become a row.

    Attributes:
        row: its place in the batch.
    """

    def __init__(self, problem: str, row: int) -> None:
        super().__init__(problem)
        self.row = row


class StackedBox(spaces.Box):
    """Several observations of a Box at once, which are an image, or none, as one is: the shape does not tell.

    Attributes:
        channels_last: of the image; None where it is none.
    """

    def __init__(self, low: NDArray[Any], high: NDArray[Any], dtype: Any, *, channels_last: bool | None) -> None:
        super().__init__(low, high, dtype=dtype)
        self.channels_last = channels_last


def check_spaces(env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Raise ConfigError when ppolab has no network or no distribution for a space of this environment."""
    problem = _observation_problem(observation_space)
    if problem:
        raise ConfigError(f"env.id={env_id}: {problem}; supported observations: {SUPPORTED_OBSERVATIONS}")
    parts = list(named_parts(observation_space))
    if not any(is_image(part) or 0 not in _vector_shape(part) for _, part in parts):
        raise ConfigError(
            f"env.id={env_id}: the observation space {observation_space} has no numbers; it must have 1 or more"
        )
    for name, part in parts:
        if is_image(part) and 0 in image_part(name, part).shape:
            raise ConfigError(
                f"env.id={env_id}: {image_part(name, part)} is an image without pixels; its sides and its channels "
                "must be 1 or more, so change the environment or its arguments in env.kwargs"
            )
    if problem := _action_problem(action_space):
        raise ConfigError(f"env.id={env_id}: {problem}; supported actions: {SUPPORTED_ACTIONS}")


def _observation_problem(space: spaces.Space[Any]) -> str:
    for name, part in named_parts(space):
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return f"the observation space {part}{f' of its part {name}' if name else ''} is not supported"
    return ""


def _action_problem(space: spaces.Space[Any]) -> str:
    parts = list(named_parts(space))
    if not parts:
        return f"the action space {space} has no parts"
    for name, part in parts:
        rank_1 = isinstance(part, spaces.MultiDiscrete | spaces.MultiBinary) and len(part.shape) == 1
        if not (isinstance(part, spaces.Box | spaces.Discrete) or rank_1):
            what = f"the part {name} of the action space, {part}," if name else f"the action space {part}"
            return f"{what} is not supported"
    return ""


def row_encoder(space: spaces.Space[Any]) -> tuple[RowLayout, Encoder]:
    """Return the layout of rows, and a function from a batch of observations of `space` to raw rows [N, W].

    Images stay bytes. Everything else becomes one vector: discrete values as one-hot vectors, the parts of Tuple and
    Dict one after another, Dict in the order of its keys.

    Raises:
        UnreadableError: (the function) a discrete value lies outside its space, or a number of an image is not finite.
    """
    parts = tuple(named_parts(space))
    images = {name: image_part(name, part) for name, part in parts if is_image(part)}
    readers = [_image_reader(images[name], part) if name in images else _vector_reader(part) for name, part in parts]
    numbers = tuple(VectorPart(name, _vector_shape(part)) for name, part in parts if name not in images)
    layout = RowLayout(sum(part.size for part in numbers), tuple(images.values()), numbers)

    def encode(batch: Any) -> NDArray[Any]:
        read = [reader(value) for reader, value in zip(readers, parts_of(batch, space), strict=True)]
        vectors = [values for values, (name, _) in zip(read, parts, strict=True) if name not in images]
        pictures = [values for values, (name, _) in zip(read, parts, strict=True) if name in images]
        return layout.packed(vectors[0] if len(vectors) == 1 else _joined(vectors, pictures), pictures)

    return layout, encode


def _joined(vectors: list[NDArray[Any]], pictures: list[NDArray[Any]]) -> NDArray[Any]:
    """Return all vectors of N observations side by side; of images alone they are [N, 0]."""
    if vectors:
        return np.concatenate(vectors, axis=1)
    return np.zeros((len(pictures[0]) if pictures else 0, 0))


def named_parts(space: spaces.Space[Any], name: str = "") -> Iterator[tuple[str, spaces.Space[Any]]]:
    """Yield the simple spaces in `space` by their places, as `camera` or `hand.0`, in the order of their values."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from named_parts(part, f"{name}.{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from named_parts(part, f"{name}.{index}" if name else str(index))
    else:
        yield name, space


def parts_of(value: Any, space: spaces.Space[Any]) -> Iterator[Any]:
    """Yield the arrays or tensors in a value of `space`, or a batch of values, in the order of `named_parts`."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from parts_of(value[key], part)
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from parts_of(value[index], part)
    else:
        yield value


def of_parts(parts: Iterator[Any], space: spaces.Space[Any]) -> Any:
    """Return the value of `space`, or the batch, that `parts_of` takes apart into the next ones of `parts`."""
    if isinstance(space, spaces.Dict):
        return {key: of_parts(parts, part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(of_parts(parts, part) for part in space.spaces)
    return next(parts)


def is_image(space: spaces.Space[Any]) -> bool:
    """Return whether a network should see `space` as pixels.

    It is a Box of two or three dimensions, of bytes or of bounded numbers in more than 8 rows and columns.
    """
    if isinstance(space, StackedBox):
        return space.channels_last is not None
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return False
    return space.dtype == np.uint8 or (min(_picture("", space).height_and_width) > 8 and space.is_bounded())


def image_part(name: str, space: spaces.Space[Any]) -> ImagePart:
    """Return the image that a space is: two equal neighbours are its sides, else the smaller end counts the channels.

    Stacked frames have their channels where a single one has them.
    """
    assert isinstance(space, spaces.Box), space
    return _picture(name, space)


def _picture(name: str, space: spaces.Box) -> ImagePart:
    if len(space.shape) == 2:
        return ImagePart(name, (1, space.shape[0], space.shape[1]), channels_last=False)
    first, second, third = space.shape
    if isinstance(space, StackedBox):
        return ImagePart(name, (first, second, third), channels_last=bool(space.channels_last))
    last = first == second or (second != third and third <= first)
    return ImagePart(name, (first, second, third), channels_last=last)


def _image_reader(image: ImagePart, space: spaces.Space[Any]) -> Encoder:
    """Return a function from batches of `space` to bytes; the bounds of other numbers become 0 and 255."""
    assert isinstance(space, spaces.Box), space
    if space.dtype == np.uint8:
        return lambda batch: np.asarray(batch, dtype=np.uint8)
    return _ScaledImage(image, space)


class _ScaledImage:
    """Make bytes of an image of other numbers; tell once of numbers beyond its bounds, which are clipped."""

    def __init__(self, image: ImagePart, space: spaces.Box) -> None:
        self._image = image
        self._low, self._steps = bounds_of_image(space)
        self._told = False

    def __call__(self, batch: Any) -> NDArray[np.uint8]:
        numbers = np.asarray(batch)
        finite = np.isfinite(numbers)
        if not finite.all():  # as a byte it would no longer be seen
            row = int(np.argwhere(~finite)[0][0])
            found = numbers[~finite][0]
            raise UnreadableError(f"an image, {self._image}, holds {found}; its numbers must be finite", row)
        scaled = np.rint((numbers - self._low) * self._steps)
        outside = (scaled < 0) | (scaled > 255)
        if not self._told and outside.any():
            self._told = True
            log.warning(
                "an image, %s, holds %s, beyond the bounds of its space, and is clipped there; mend the observation or "
                "the space", self._image, numbers[outside][0],
            )  # fmt: skip
        return scaled.clip(0, 255).astype(np.uint8)


def bounds_of_image(space: spaces.Space[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, of a space that is an image: its lowest numbers, and the steps of a byte per number; each [...]."""
    assert isinstance(space, spaces.Box), space
    low = space.low.astype(np.float64)
    return low, 255.0 / np.maximum(space.high.astype(np.float64) - low, np.finfo(np.float64).tiny)


def _vector_shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return (int(space.nvec.sum()),)
    assert isinstance(space, spaces.Box | spaces.MultiBinary), space
    return tuple(map(int, space.shape)) or (1,)


def _vector_reader(space: spaces.Space[Any]) -> Encoder:
    """Return a function from batches of a simple space to [N, D] float64."""
    if isinstance(space, spaces.Discrete):
        return _one_hot(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot(space.nvec.reshape(-1), space.start.reshape(-1))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:  # a wrong shape must stay to be seen
        return lambda batch: np.asarray(batch, dtype=np.float64)
    size = math.prod(_vector_shape(space))
    return lambda batch: np.asarray(batch, dtype=np.float64).reshape(-1, size)


def stacked(observations: Sequence[Any], space: spaces.Space[Any]) -> Any:
    """Return single observations of `space`, of any nesting, as one batch in the types that `space` declares."""
    if isinstance(space, spaces.Dict):
        return {key: stacked([one[key] for one in observations], part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked([one[i] for one in observations], part) for i, part in enumerate(space.spaces))
    return np.stack([np.asarray(one, dtype=space.dtype) for one in observations])


def first_of(batch: Any) -> Any:
    """Return the first row of a batch of any nesting."""
    if isinstance(batch, dict):
        return {key: first_of(part) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(first_of, batch))
    return np.asarray(batch)[0]


def first_action(actions: Any, space: spaces.Space[Any]) -> Any:
    """Return the first action of a batch, as an environment with the action space `space` takes it."""
    arrays = zip(parts_of(actions, space), named_parts(space), strict=True)
    # a Box of shape () has arrays, not scalars
    first = (array[0, ...] if isinstance(part, spaces.Box) else array[0] for array, (_, part) in arrays)
    return of_parts(first, space)


def _one_hot(sizes: NDArray[Any], starts: NDArray[Any]) -> Encoder:
    offsets = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    size = int(sizes.sum())

    def encode(batch: Any) -> NDArray[np.float64]:
        values = np.asarray(batch).reshape(-1, len(sizes)) - starts
        outside = ((values < 0) | (values >= sizes)).any(axis=1)
        if outside.any():
            row = int(outside.argmax())
            told = (values + starts)[row].tolist()
            raise UnreadableError(f"a discrete observation lies outside its space: {told}", row)
        columns = values + offsets
        encoded = np.zeros((columns.shape[0], size))
        np.put_along_axis(encoded, columns, 1.0, axis=1)
        return encoded

    return encode


@dataclass(frozen=True)
class ActionMapping:
    """How a Gaussian's actions, which have no bounds, become those of a Box.

    Attributes:
        rescale: map [-1, 1] onto the range of each component that has two bounds. All actions are clipped to the
            bounds.
        squash: before that, bring these components into (-1, 1) by tanh, so that none is clipped. Probability ratios
            and KL divergences are the same before and after it, so the policy's distribution need not know of it.
    """

    rescale: bool = True
    squash: bool = False


@dataclass(frozen=True)
class ActionPart:
    """One part of an action: its simple space, and its columns in the row of numbers that a policy chooses."""

    space: spaces.Space[Any]
    columns: slice


def action_parts(space: spaces.Space[Any]) -> list[ActionPart]:
    """Return the parts of the actions of `space`, in the order of `named_parts`."""
    simple = [part for _, part in named_parts(space)]
    columns, start = {}, 0
    for kind in ACTION_KINDS:
        for index, part in enumerate(simple):
            if isinstance(part, kind):
                columns[index] = slice(start, start + math.prod(part.shape or ()))
                start = columns[index].stop
    return [ActionPart(part, columns[index]) for index, part in enumerate(simple)]


def action_decoder(space: spaces.Space[Any], mapping: ActionMapping) -> Decoder:
    """Return a function from policy actions [N, ...] to a batch of actions, as a vector environment has it.

    `space` is what the policy chooses from, see `ppolab.envs.choices`; whole numbers of a Box are numbers here.
    Discrete actions are shifted by the start of their space. The batch of a Dict or Tuple is one of arrays.
    """
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return _decoder(space, mapping)
    decoders = [
        (part.columns, np.float32 if isinstance(part.space, spaces.Box) else np.int64, _decoder(part.space, mapping))
        for part in action_parts(space)
    ]

    def decode(rows: NDArray[Any]) -> Any:
        parts = (decoder(rows[:, columns].astype(kind, copy=False)) for columns, kind, decoder in decoders)
        return of_parts(parts, space)

    return decode


def _decoder(space: spaces.Space[Any], mapping: ActionMapping) -> Decoder:
    if isinstance(space, Choices | Combinations):
        return space.decoded
    if isinstance(space, spaces.Box):
        return _box_decoder(space, mapping)
    if isinstance(space, spaces.Discrete):
        start, dtype = space.start, space.dtype
        return lambda actions: (actions[:, 0] + start).astype(dtype)
    if isinstance(space, spaces.MultiDiscrete):
        starts, multi_dtype = space.start, space.dtype
        return lambda actions: (actions + starts).astype(multi_dtype)
    assert isinstance(space, spaces.MultiBinary), space
    return lambda actions: actions.astype(np.int8)


def policy_bounds(
    space: spaces.Space[Any], mapping: ActionMapping
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the bounds ([G], [G]) beyond which the numbers of a policy's actions are clipped; None where none are.

    These are the last G columns of a policy's action.
    """
    boxes = [part for _, part in named_parts(space) if isinstance(part, spaces.Box)]
    if not boxes:
        return None
    low, high = map(np.concatenate, zip(*(_bounds_of_box(box, mapping) for box in boxes), strict=True))
    return (low, high) if np.isfinite([low, high]).any() else None


def _bounds_of_box(space: spaces.Box, mapping: ActionMapping) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    bounded = space.bounded_below.reshape(-1) & space.bounded_above.reshape(-1) & mapping.rescale
    reach = np.inf if mapping.squash else 1.0
    return np.where(bounded, -reach, low), np.where(bounded, reach, high)


@dataclass(frozen=True)
class BoxPlacement:
    """Where a Gaussian's actions fall in a Box: `action * radius + centre`; one value per component.

    Attributes:
        bounded: whether the component is rescaled to its two bounds. low, high: of the space, infinite without one.
        integers: whether the space holds whole numbers.
    """

    bounded: NDArray[np.bool_]
    centre: NDArray[Any]
    radius: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    integers: bool


def box_placement(space: spaces.Box, mapping: ActionMapping) -> BoxPlacement:
    """Return the placement that maps -1, 0, 1 to low, middle, high.

    Centre and radius are computed in float64, since in a narrow type of the space they may overflow.
    """
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    bounded = space.bounded_below.reshape(-1) & space.bounded_above.reshape(-1) & mapping.rescale
    half_low, half_high = (np.where(bounded, bound, 0).astype(np.float64) / 2 for bound in (low, high))
    centre, radius = half_high + half_low, np.where(bounded, half_high - half_low, 1.0)
    integers = bool(np.issubdtype(space.dtype, np.integer))
    if integers:
        # each integer gets an interval of the same length; else the two at the ends would get half of one
        radius = np.where(bounded, radius + 0.5, 1.0)
    else:
        centre, radius = centre.astype(space.dtype), radius.astype(space.dtype)
    return BoxPlacement(bounded, centre, radius, low, high, integers)


def _box_decoder(space: spaces.Box, mapping: ActionMapping) -> Decoder:
    place = box_placement(space, mapping)
    shape, dtype = space.shape, space.dtype

    def decode(actions: NDArray[Any]) -> NDArray[Any]:
        if place.integers:
            actions = actions.astype(np.float64)
        chosen = np.where(place.bounded, np.tanh(actions), actions) if mapping.squash else actions
        placed = chosen * place.radius + place.centre
        if place.integers:
            return _nearest_integers(placed, place.low, place.high).reshape(-1, *shape)
        bounded_actions: NDArray[Any] = np.clip(placed, place.low, place.high)
        return bounded_actions.astype(dtype).reshape(-1, *shape)

    return decode


def _nearest_integers(values: NDArray[np.float64], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return the integers of [low, high] nearest to `values`, in the type of the bounds.

    Values beyond a bound never pass the conversion: a float64 cannot hold every int64, and the largest one would
    overflow.
    """
    rounded = np.rint(values)
    inside = (rounded > low.astype(np.float64)) & (rounded < high.astype(np.float64))
    whole = np.where(inside, rounded, 0.0).astype(low.dtype)
    return np.where(inside, whole, np.where(rounded >= high.astype(np.float64), high, low))
