"""The terms of the objective: equivalent forms, where gradients vanish, and what padding must not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from ppolab.core.losses import (
    clipped_surrogate,
    clipped_value_error,
    explained_variance,
    is_clipped,
    squared_value_error,
    standardized,
    weighted_mean,
)

numbers = st.floats(-5, 5, allow_nan=False)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(arrays.arrays(np.float64, (2, 20), elements=numbers), st.floats(0.01, 0.99))
def test_clipped_surrogate_equals_its_form_with_g(pairs: np.ndarray, clip: float) -> None:
    log_ratio, advantages = torch.from_numpy(pairs)
    g = torch.where(advantages >= 0, (1 + clip) * advantages, (1 - clip) * advantages)
    expected = torch.minimum(log_ratio.exp() * advantages, g)
    torch.testing.assert_close(clipped_surrogate(log_ratio, advantages, clip), expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # already likelier than the clip allows: no more gain
        (1.5, -2.0, -3.0, -3.0),  # likelier though it is bad: the gradient must undo it
        (0.5, 2.0, 1.0, 1.0),
        (0.5, -2.0, -1.6, 0.0),
    ],
)
def test_gradient_vanishes_only_where_clipping_is_pessimistic(
    ratio: float, advantage: float, objective: float, slope: float
) -> None:
    log_ratio = doubles(math.log(ratio)).requires_grad_()
    surrogate = clipped_surrogate(log_ratio, doubles(advantage), 0.2)
    surrogate.sum().backward()
    assert surrogate.item() == pytest.approx(objective)
    assert log_ratio.grad.item() == pytest.approx(slope)  # d(r A) / d(log r) = r A


def test_clip_fraction_counts_ratios_outside_the_interval() -> None:
    ratios = doubles(0.5, 0.79, 0.81, 1.0, 1.19, 1.21)
    assert is_clipped(ratios.log(), 0.2).tolist() == [True, True, False, False, False, True]


def test_value_error_without_clipping() -> None:
    assert squared_value_error(doubles(1, 3), doubles(4, 1)).tolist() == [4.5, 2.0]


def test_value_error_with_clipping_takes_the_worse_of_the_two() -> None:
    # kept: 0.2, 0.2, 0.1
    errors = clipped_value_error(doubles(1.0, 1.0, 0.1), doubles(0, 0, 0), doubles(2.0, 0.8, 1.0), 0.2)
    assert errors.tolist() == pytest.approx([0.5 * 1.8**2, 0.5 * 0.6**2, 0.5 * 0.9**2])


def test_a_wide_value_clip_changes_nothing() -> None:
    values, old, returns = torch.randn((3, 50))
    assert clipped_value_error(values, old, returns, 1e6).allclose(squared_value_error(values, returns), atol=1e-6)


def test_clipped_value_error_stops_pulling_once_the_value_has_moved_far_enough() -> None:
    values = doubles(0.5).requires_grad_()  # moved from 0 beyond 0.2 towards 0.4, and past it
    clipped_value_error(values, doubles(0.0), doubles(0.4), 0.2).sum().backward()
    assert values.grad.item() == 0.0


@given(st.integers(1, 30), st.integers(0, 10), st.integers(0, 2**32 - 1))
def test_padding_never_influences_a_mean(count: int, padding: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    samples = torch.randn(count, generator=rng, dtype=torch.float64)
    padded = torch.cat((samples, 1e6 * torch.randn(padding, generator=rng, dtype=torch.float64)))
    weights = torch.cat((torch.ones(count), torch.zeros(padding))).double()
    assert weighted_mean(padded, weights).item() == pytest.approx(samples.mean().item(), abs=1e-9)


def alone(sums: Tensor) -> Tensor:
    return sums


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_every_group_is_standardized_by_itself(counts: list[int], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    parts = [10 * torch.randn(count, generator=rng) + 5 for count in counts]
    groups = torch.repeat_interleave(torch.tensor(counts))
    order = torch.randperm(len(groups), generator=rng)
    result = standardized(torch.cat(parts)[order], groups[order], torch.tensor(counts), alone)
    for index, part in enumerate(parts):
        expected = (part - part.mean()) / (part.std() + 1e-8) if len(part) > 1 else torch.zeros(1)
        mine = result[groups[order] == index].sort().values
        torch.testing.assert_close(mine, expected.sort().values, rtol=1e-4, atol=1e-5)


def test_a_group_may_lie_in_several_processes() -> None:
    """Two of its samples are elsewhere: 5 and 9, of sum 14."""
    messages = iter([doubles(14.0), doubles(1.0 + 9.0)])  # the mean of 2, 8, 5, 9 is 6
    group, count = torch.zeros(2).long(), torch.tensor([4])
    result = standardized(doubles(2.0, 8.0), group, count, lambda sums: sums + next(messages))
    deviation = (30 / 3) ** 0.5
    torch.testing.assert_close(result, doubles(-4 / deviation, 2 / deviation))


def test_a_single_sample_is_centred_not_scaled() -> None:
    assert standardized(doubles(7.0), torch.zeros(1).long(), torch.tensor([1]), alone).tolist() == [0.0]


def test_equal_samples_standardize_to_zero() -> None:
    result = standardized(doubles(3.0, 3.0, 3.0), torch.zeros(3).long(), torch.tensor([3]), alone)
    assert result.tolist() == [0.0, 0.0, 0.0]


def test_explained_variance() -> None:
    returns = doubles(1, 2, 3, 4)
    assert explained_variance(returns, returns).item() == 1.0
    assert explained_variance(returns + 10, returns).item() == 1.0  # an offset is no variance
    assert explained_variance(torch.full((4,), 2.5).double(), returns).item() == 0.0
    assert explained_variance(-returns, returns).item() == -3.0


def test_explained_variance_of_constant_or_single_returns_is_nan() -> None:
    assert explained_variance(doubles(1, 2), doubles(5, 5)).isnan()
    assert explained_variance(doubles(1), doubles(5)).isnan()
