"""State what the values of settings must satisfy, in code and in words."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

SCHEDULES = ("linear", "constant")
"""Schedules that are shipped; others are the user's own, MODULE:NAME."""

KIND_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
"""What a user is told about a type."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
BOUND = re.compile(r"([<>]=?)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
WHOLE_NUMBERS = "whole"


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have.

    Attributes:
        text: at most one lower and one upper bound with a comma between, such as "> 0, <= 1"; "whole" among them
            leaves whole numbers only. Raises ValueError for another text.
    """

    text: str

    def __post_init__(self) -> None:
        kinds = [sign[0] for sign, _ in self._bounds]
        if not self.text.strip() or len(set(kinds)) != len(kinds):
            raise ValueError(f"{self.text!r} is no range; write bounds such as '> 0, <= 1', or 'whole, >= 1'")

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return WHOLE_NUMBERS in self._parts

    @property
    def _parts(self) -> list[str]:
        return [part.strip() for part in self.text.split(",")]

    @cached_property
    def _bounds(self) -> list[tuple[str, float]]:
        """Signs and numbers, the lower bound first."""
        bounds = []
        for part in self._parts:
            match = BOUND.fullmatch(part)
            if match:
                bounds.append((match[1], float(match[2])))
            elif part != WHOLE_NUMBERS:
                raise ValueError(f"{part!r} is no bound; write such as '> 0', '<= 1' or 'whole'")
        return sorted(bounds, key=lambda bound: bound[0][0] == "<")

    def holds(self, value: float) -> bool:
        """Return whether `value` lies in the range; not-a-number never does."""
        inside = all(COMPARISONS[sign](value, bound) for sign, bound in self._bounds)
        return inside and (float(value).is_integer() if self.whole else value == value)

    @property
    def words(self) -> str:
        """The rule as it stands in an error message."""
        told = [SINGLE[sign].format(f"{bound:.15g}") for sign, bound in self._bounds]
        if self.whole:
            return " of ".join(["must be a whole number", *filter(None, [", and ".join(told)])])
        if len(told) == 1:
            return f"must be {told[0]}"
        (lower, low), (upper, high) = self._bounds
        return PAIRS[lower, upper].format(f"{low:.15g}", f"{high:.15g}")


SINGLE = {">": "greater than {}", ">=": "{} or more", "<": "less than {}", "<=": "at most {}"}
PAIRS = {
    (">", "<"): "must lie strictly between {} and {}",
    (">=", "<="): "must lie between {} and {}",
    (">=", "<"): "must be at least {} and less than {}",
    (">", "<="): "must be greater than {} and at most {}",
}

POSITIVE = Range("> 0")
NOT_NEGATIVE = Range(">= 0")
TWO_OR_MORE = Range(">= 2")
OPEN_UNIT = Range("> 0, < 1")
CLOSED_UNIT = Range(">= 0, <= 1")
BELOW_ONE = Range(">= 0, < 1")
SEED = Range(f"whole, >= 0, <= {2**32 - 1}")


def is_a(value: object, kind: type) -> bool:
    """Return whether `value` may stand for a `kind`: a whole number is a number, true and false are no numbers."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
