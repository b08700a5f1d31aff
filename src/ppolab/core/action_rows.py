"""Where the parts of an action stand in the row of numbers that a policy chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from ppolab.core.nested_spaces import named_parts

KINDS = (spaces.Discrete | spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
"""The order of parts in a row. All of one kind are drawn from one distribution, and normal ones come last."""


@dataclass(frozen=True)
class ActionPart:
    """One part of an action.

    Attributes:
        name: its place in a Dict or Tuple, as `hand.0`; empty where there is no other part.
        space: its own, which is simple.
        columns: of the row.
    """

    name: str
    space: spaces.Space[Any]
    columns: slice


def action_parts(space: spaces.Space[Any]) -> list[ActionPart]:
    """Return the parts of the actions of `space`, in the order of `named_parts`."""
    named = list(named_parts(space))
    columns, start = {}, 0
    for kind in KINDS:
        for index, (_, part) in enumerate(named):
            if isinstance(part, kind):
                columns[index] = slice(start, start + math.prod(part.shape or ()))
                start = columns[index].stop
    return [ActionPart(name, part, columns[index]) for index, (name, part) in enumerate(named)]
