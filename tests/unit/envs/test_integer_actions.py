"""Integer `Box` actions: nothing overflows, and every integer is reached about as often as the others."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from ppolab.envs.spaces import ActionMapping, action_decoder

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def decoded(space: spaces.Box, values: list[float], **mapping: bool) -> list[int]:
    actions = np.array(values, dtype=np.float32)[:, None]
    result = action_decoder(space, ActionMapping(**mapping))(actions)
    assert result.dtype == space.dtype and all(action in space for action in result)
    return result[:, 0].tolist()


def box(low: float, high: float, dtype: str) -> spaces.Box:
    return spaces.Box(low, high, (1,), np.dtype(dtype).type)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "middle"),
    [
        (100, 200, "uint8", 150), (-100, 100, "int8", 0), (-128, 126, "int8", -1), (0, 254, "uint8", 127),
        (-30_000, 30_000, "int16", 0), (2**31, 2**32 - 2, "uint32", 3 * 2**30 - 1), (-(2**30), 2**30, "int32", 0),
    ],
)  # fmt: skip
def test_minus_one_zero_and_one_become_low_middle_and_high(low: int, high: int, dtype: str, middle: int) -> None:
    assert decoded(box(low, high, dtype), [-1, 0, 1]) == [low, middle, high]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_the_whole_range_of_their_type(dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    space = spaces.Box(-largest, largest, (1,), np.dtype(dtype).type)
    assert action_decoder(space, ActionMapping())(np.array([[-1.0], [0.0], [1.0]], np.float32))[:, 0].tolist() == [
        -largest, 0.0, largest,
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("squash", [False, True])
def test_the_bounds_of_a_type_are_reached_and_not_passed(dtype: str, squash: bool) -> None:
    limits = np.iinfo(dtype)
    assert decoded(box(limits.min, limits.max, dtype), [-30, -1e30, 30, 1e30], squash=squash) == [
        limits.min, limits.min, limits.max, limits.max,
    ]  # fmt: skip


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 2), (3, 6), (-4, 5)])
def test_every_integer_is_about_as_likely_at_the_start(low: int, high: int, squash: bool) -> None:
    """The shipped initial deviation, exp(-0.5). A normal distribution has more mass in its middle than at its ends."""
    drawn = np.random.default_rng(0).normal(size=20_000) * np.exp(-0.5)
    actions = decoded(box(low, high, "int8"), drawn.tolist(), squash=squash)
    shares = np.bincount(np.array(actions) - low, minlength=high - low + 1) / len(actions)
    assert len(shares) == high - low + 1
    assert shares.min() > 0.3 / len(shares) and shares.max() < 1.6 / len(shares)


def test_each_integer_has_an_interval_of_equal_length() -> None:
    values = np.linspace(-0.9999, 0.9999, 30_001).tolist()
    counts = np.bincount(decoded(box(0, 4, "uint8"), values))
    assert np.ptp(counts) <= 2 and len(counts) == 5


@pytest.mark.parametrize("squash", [False, True])
def test_one_value_is_always_that_value(squash: bool) -> None:
    assert decoded(box(7, 7, "int8"), [-9, -1, 0, 1, 9], squash=squash) == [7] * 5


@pytest.mark.parametrize("squash", [False, True])
def test_a_component_with_one_bound_is_only_rounded(squash: bool) -> None:
    above = spaces.Box(0, np.inf, (1,), np.int32)
    assert decoded(above, [-3, -0.4, 0.4, 0.6, 2.5, 2.6, 1e30], squash=squash) == [0, 0, 0, 1, 2, 3, int(above.high[0])]
    below = spaces.Box(-np.inf, 5, (1,), np.int64)
    assert decoded(below, [-3.6, 4.6, 9, -1e30], squash=squash) == [-4, 5, 5, int(below.low[0])]


def test_without_rescaling_they_are_rounded_and_clipped() -> None:
    assert decoded(box(0, 3, "int8"), [-2, 0.4, 0.6, 1.4, 2.7, 9], rescale=False) == [0, 0, 1, 1, 3, 3]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DTYPES), st.data(), st.booleans())
def test_any_action_of_any_bounds_lies_in_the_space(dtype: str, data: st.DataObject, squash: bool) -> None:
    limits = np.iinfo(dtype)
    low = data.draw(st.integers(int(limits.min), int(limits.max)))
    high = data.draw(st.integers(low, int(limits.max)))
    space = spaces.Box(np.array([low], dtype), np.array([high], dtype), dtype=np.dtype(dtype).type)
    value = data.draw(st.floats(width=32, allow_nan=False, allow_infinity=False))
    low_end, chosen, high_end = decoded(space, [-1, value, 1], squash=squash)
    assert low <= low_end <= high_end <= high and low <= chosen <= high
    if not squash:
        assert (low_end, high_end) == (low, high)
