"""Take apart what Gymnasium's Dict and Tuple spaces hold, and put it together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gymnasium import spaces


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
