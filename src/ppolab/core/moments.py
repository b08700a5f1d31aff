"""Merge running means and variances exactly (Chan, Golub & LeVeque 1979, equations 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and population variance of a stream of vectors; float64 so that 1e9 samples do not drift.

    Attributes:
        count: [] number of samples.
        mean: [...].
        variance: [...], divided by count.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor


def no_samples(shape: tuple[int, ...]) -> Moments:
    """Return the moments of zero samples: merging with them changes nothing."""
    zeros = torch.zeros(shape, dtype=torch.float64)
    return Moments(torch.zeros((), dtype=torch.float64), zeros, torch.ones_like(zeros))


def sample_moments(samples: Tensor) -> Moments:
    """Return the moments of samples [B, ...] over their first dimension; B may be 0."""
    if samples.shape[0] == 0:
        return no_samples(tuple(samples.shape[1:]))
    samples = samples.to(torch.float64)
    count = torch.tensor(float(samples.shape[0]), dtype=torch.float64)
    if samples.numel() == 0:  # observations that are images only
        nothing = no_samples(tuple(samples.shape[1:]))
        return Moments(count, nothing.mean, nothing.variance)
    return Moments(count, samples.mean(0), samples.var(0, unbiased=False))


def merged(left: Moments, right: Moments) -> Moments:
    """Return the moments of the union of two disjoint sets of samples, either of which may be empty."""
    count = left.count + right.count
    if count == 0:
        return left
    share = right.count / count
    difference = right.mean - left.mean
    variance = left.variance * (1 - share) + right.variance * share + difference.square() * share * (1 - share)
    return Moments(count, left.mean + difference * share, variance)
