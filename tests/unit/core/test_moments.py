"""Merging moments equals taking them over everything at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppolab.core.moments import merged, no_samples, sample_moments


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.sampled_from([0.0, 1e3, -1e6]), st.integers(0, 999))
def test_merging_equals_moments_of_the_concatenation(sizes: list[int], offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(size, 3)) * [1, 10, 0.1] + offset for size in sizes]
    moments = no_samples((3,))
    for part in parts:
        moments = merged(moments, sample_moments(torch.from_numpy(part)))
    everything = np.concatenate(parts)
    assert moments.count == len(everything)
    if len(everything):
        np.testing.assert_allclose(moments.mean, everything.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.variance, everything.var(0), rtol=1e-5, atol=1e-9)


def test_literal_moments() -> None:
    moments = sample_moments(torch.tensor([[1.0], [2.0], [6.0]]))
    assert (moments.count.item(), moments.mean.item()) == (3.0, 3.0)
    assert moments.variance.item() == pytest.approx(14 / 3)


def test_order_does_not_matter() -> None:
    left, right = sample_moments(torch.randn((5, 2))), sample_moments(torch.randn((9, 2)) + 3)
    one, other = merged(left, right), merged(right, left)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.variance, other.variance)


@pytest.mark.parametrize("empty_first", [True, False])
def test_empty_batches_change_nothing(empty_first: bool) -> None:
    some, none = sample_moments(torch.randn((5, 2))), sample_moments(torch.zeros((0, 2)))
    union = merged(none, some) if empty_first else merged(some, none)
    for name in ("count", "mean", "variance"):
        assert getattr(union, name).equal(getattr(some, name))


def test_two_empty_sets_stay_empty_and_finite() -> None:
    union = merged(no_samples((2,)), no_samples((2,)))
    assert union.count == 0
    assert union.mean.isfinite().all() and union.variance.isfinite().all()


def test_a_large_offset_does_not_lose_the_variance() -> None:
    rng = np.random.default_rng(0)
    moments = no_samples(())
    deviations = rng.normal(size=(50, 200))
    for part in deviations:
        moments = merged(moments, sample_moments(torch.from_numpy(part + 1e8)))
    assert moments.variance.item() == pytest.approx(deviations.var(), rel=1e-6)
    assert moments.mean.item() == pytest.approx(1e8, rel=1e-9)


def test_statistics_are_kept_in_double_precision() -> None:
    moments = sample_moments(torch.ones((4, 2), dtype=torch.float32))
    assert {moments.count.dtype, moments.mean.dtype, moments.variance.dtype} == {torch.float64}
