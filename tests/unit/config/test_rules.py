"""Ranges in code and in words."""

from __future__ import annotations

import math

import pytest

from ppolab.config.rules import Range, is_a


@pytest.mark.parametrize(
    ("text", "inside", "outside", "words"),
    [
        ("> 0", (1e-9, 1, math.inf), (0, -1, math.nan), "must be greater than 0"),
        (">= 0", (0, 5), (-1e-9, math.nan), "must be 0 or more"),
        ("< 2.5", (2.4,), (2.5, 3), "must be less than 2.5"),
        ("<= -1", (-1, -2), (-0.5, 0), "must be at most -1"),
        ("> 0, < 1", (0.5,), (0, 1, math.nan), "must lie strictly between 0 and 1"),
        ("< 1, > 0", (0.5,), (0, 1), "must lie strictly between 0 and 1"),
        (">= 0, <= 1e-3", (0, 1e-3), (-1, 0.0011), "must lie between 0 and 0.001"),
        (">= 0, < 1", (0, 0.999), (1,), "must be at least 0 and less than 1"),
        ("> 0, <= 1", (1, 0.001), (0,), "must be greater than 0 and at most 1"),
        ("whole, >= 1", (1, 2.0), (0, 1.5, math.inf, math.nan), "must be a whole number of 1 or more"),
        ("whole", (-3, 0), (0.5,), "must be a whole number"),
        ("whole, >= 0, <= 9", (0, 9), (-1, 10), "must be a whole number of 0 or more, and at most 9"),
    ],
)
def test_a_range_holds_what_its_words_say(
    text: str, inside: tuple[float, ...], outside: tuple[float, ...], words: str
) -> None:
    tested = Range(text)
    assert all(tested.holds(value) for value in inside)
    assert not any(tested.holds(value) for value in outside)
    assert tested.words == words


@pytest.mark.parametrize("text", ["", "0", "> zero", "between 0 and 1", "> 0, > 1", "= 3", "> 0;"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no range|no bound"):
        Range(text)


def test_true_is_no_number_and_a_whole_number_is_one() -> None:
    assert is_a(3, float) and is_a(0.5, float) and is_a(3, int) and is_a(True, bool) and is_a("3", str)
    assert not is_a(True, int) and not is_a(True, float) and not is_a(3.0, int) and not is_a(1, bool)
