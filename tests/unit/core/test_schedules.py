"""What changes over a run."""

from __future__ import annotations

import pytest

from ppolab.core.schedules import between, constant, followed_kl, linear


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (1.01, 0.0)])
def test_linear(progress: float, factor: float) -> None:
    assert linear(progress) == factor


def test_constant() -> None:
    assert (constant(0.0), constant(1.0)) == (1.0, 1.0)


@pytest.mark.parametrize(("progress", "value"), [(0.0, -0.5), (0.25, -0.875), (0.5, -1.25), (1.0, -2.0), (1.01, -2.0)])
def test_between(progress: float, value: float) -> None:
    assert between(-0.5, -2.0, progress) == value


def test_the_ends_are_exact() -> None:
    assert (between(0.1, -0.7, 0.0), between(0.1, -0.7, 1.0)) == (0.1, -0.7)


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.0401, 2.0), (0.04, 3.0), (0.02, 3.0), (0.01, 3.0), (0.0099, 4.5), (-1e-9, 4.5)]
)
def test_the_rate_follows_the_kl(kl: float, factor: float) -> None:
    assert followed_kl(3.0, kl, target=0.02) == pytest.approx(factor)


def test_the_rate_stays_within_bounds() -> None:
    assert followed_kl(99.0, 0.0, 0.01) == 100.0
    assert followed_kl(0.011, 1.0, 0.01) == 0.01
