"""Take one observation, or a batch of them, as an environment gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.action_masks import ENTRY, METHOD, OBSERVED, as_flags, is_observed, without_choice
from ppolab.envs.choices import choice_sizes
from ppolab.envs.spaces import is_image, row_encoder
from ppolab.errors import ConfigError

WHOLE = "iu"
"""Kinds of NumPy's types that hold whole numbers."""


class ObservationReader:
    """Turn observations of `space` into rows for a policy, and say what is wrong with those that are none."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._space = space
        self._layout, self._encode = row_encoder(space)

    def __call__(self, observation: Any) -> tuple[NDArray[Any], bool]:
        """Return raw rows [N, W], and whether it was one observation and no batch; N is 1 then.

        Raises:
            ConfigError: the shape or the type is of no observation of the space, or a number is not finite.
            EnvError: a discrete value lies outside its space.
        """
        batch, count = _as_batch(observation, self._space, "observation")
        rows = self._encode(batch)
        vectors = self._layout.vector_of(rows)
        if not np.isfinite(vectors).all():
            row, column = np.argwhere(~np.isfinite(vectors))[0]
            where = f"row {row}, " if count is not None else ""
            raise ConfigError(
                f"observation: holds {vectors[row, column]} ({where}number {column}); mend what makes the observations"
            )
        return rows, count is None


class MaskReader:
    """Find the mask of the allowed actions of one observation or a batch, and say what is wrong with one.

    Args:
        policy_space: that the policy chooses from. masked: it was trained with masks.
    """

    def __init__(self, space: spaces.Space[Any], policy_space: spaces.Space[Any], *, masked: bool) -> None:
        self._masked = masked
        self._observed = masked and is_observed(space, policy_space)
        self._sizes = choice_sizes(policy_space)
        self._policy_space = policy_space

    def __call__(self, observation: Any, given: Any, count: int) -> NDArray[np.bool_] | None:
        """Return masks [N, A], or None for a policy without masks.

        Args:
            given: beside the observation; None where nothing was. count: N, 1 for one observation by itself.

        Raises:
            ConfigError: there is none, it is given twice, or it is no mask of the actions.
        """
        if not self._masked:
            if given is not None:
                raise ConfigError("action_mask: this policy was trained without masks; leave action_mask out")
            return None
        if self._observed:
            if given is not None:
                raise ConfigError(f"action_mask: is in the observation already, as {OBSERVED}; leave action_mask out")
            if ENTRY not in observation:
                raise ConfigError(f"observation: lacks the key {ENTRY!r}, the mask of the allowed actions")
            given = observation[ENTRY]
        if given is None:
            raise ConfigError(
                "action_mask: this policy was trained with masks; give that of the environment's info or of its "
                f"method {METHOD}()"
            )
        return self._checked(given, count)

    def _checked(self, given: Any, count: int) -> NDArray[np.bool_]:
        parts = list(given) if isinstance(given, tuple | list) and count == 1 else [given]
        wanted = f"{count} x {sum(self._sizes)}" if count > 1 else str(sum(self._sizes))
        try:
            flat = np.concatenate([np.asarray(part).reshape(-1) for part in parts])
        except ValueError:  # rows of different lengths
            raise ConfigError(
                f"action_mask: is no array of numbers; give {wanted}, a row for each observation"
            ) from None
        if flat.dtype.kind not in WHOLE + "fb" or flat.size != count * sum(self._sizes):
            raise ConfigError(
                f"action_mask: is {flat.size} values of type {flat.dtype}; give {wanted} numbers, of which those of "
                f"{self._policy_space} that are allowed are 1"
            )
        try:
            masks = as_flags(flat.reshape(count, -1))
        except ValueError as error:
            raise ConfigError(f"action_mask: {error}") from None
        stuck = without_choice(masks, self._sizes)
        if stuck.any():
            raise ConfigError(f"action_mask: row {int(stuck.argmax())} allows no action; there is nothing to choose")
        return np.asarray(masks)


def _as_batch(value: Any, space: spaces.Space[Any], name: str) -> tuple[Any, int | None]:
    """Return a batch, and how many observations were given; None for one by itself."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: is a {type(value).__name__}; give a dict with the keys {_listed(space)}")
        missing = [key for key in space.spaces if key not in value]
        if missing:
            raise ConfigError(f"{name}: lacks the key {missing[0]!r}; it needs {_listed(space)}")
        return _parts_as_batch({key: (value[key], part) for key, part in space.spaces.items()}, name)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, Sequence) or len(value) != len(space.spaces):
            raise ConfigError(f"{name}: is no tuple of {len(space.spaces)} parts; give one part for each of {space}")
        pairs = zip(value, space.spaces, strict=True)
        return _parts_as_batch(dict(enumerate(pairs)), name)
    shape = space.shape
    assert shape is not None
    array = _array(value, space, name)
    if array.shape == shape:
        return array[None], None
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        return array, len(array)
    several = f"({', '.join(['N', *map(str, shape)])}{'' if shape else ','})"
    raise ConfigError(f"{name}: has shape {array.shape}; one observation has {shape}, a batch of N has {several}")


def _parts_as_batch(parts: dict[Any, tuple[Any, spaces.Space[Any]]], name: str) -> tuple[Any, int | None]:
    batches, counts = {}, {}
    for key, (value, space) in parts.items():
        batches[key], counts[key] = _as_batch(value, space, f"{name}[{key!r}]")
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key!r}: {'one' if count is None else count}" for key, count in counts.items())
        raise ConfigError(f"{name}: its parts hold different numbers of observations ({told}); give as many of each")
    return batches, next(iter(counts.values()))


def _array(value: Any, space: spaces.Space[Any], name: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:  # lists of unequal length, tensors on a GPU or with gradients
        raise ConfigError(f"{name}: is no array of numbers: {str(error).partition(chr(10))[0]}") from error
    kinds = "fiub" if isinstance(space, spaces.Box) else WHOLE + "b" * isinstance(space, spaces.MultiBinary)
    if array.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers"
        raise ConfigError(
            f"{name}: is of type {array.dtype}; give {wanted} of shape {space.shape}, as {space} has them"
        )
    if isinstance(space, spaces.Box) and is_image(space):
        _check_pixels(array, space, name)
    if isinstance(space, spaces.MultiBinary) and ((array != 0) & (array != 1)).any():
        raise ConfigError(f"{name}: holds other numbers than 0 and 1, of which {space} is made")
    return array


def _check_pixels(array: NDArray[Any], space: spaces.Box, name: str) -> None:
    """Raise ConfigError where an image holds what would be another number, or none, as a byte."""
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: holds {array[~np.isfinite(array)][0]}; mend what makes the observations")
    with np.errstate(all="ignore"):
        changed = array.astype(np.uint8) != array
    if space.dtype == np.uint8 and changed.any():
        raise ConfigError(
            f"{name}: holds {np.extract(changed, array)[0]}, which is no byte; give whole numbers from 0 to 255, as "
            "the environment does"
        )


def _listed(space: spaces.Dict) -> str:
    return ", ".join(repr(key) for key in space.spaces)
