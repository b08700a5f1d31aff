"""Estimate the Kullback-Leibler divergence from the policy that collected the data, by samples.

All three follow J. Schulman, "Approximating KL divergence" (2020), for samples x ~ old and
log_ratio = log new(x) - log old(x); each is elementwise and estimates KL(old || new) by its mean.
"""

from __future__ import annotations

from torch import Tensor


def kl_k1(log_ratio: Tensor) -> Tensor:
    """Return -log r: unbiased, high variance, negative for many samples."""
    return -log_ratio


def kl_k2(log_ratio: Tensor) -> Tensor:
    """Return (log r)^2 / 2: biased, low variance, never negative."""
    return 0.5 * log_ratio.square()


def kl_k3(log_ratio: Tensor) -> Tensor:
    """Return (r - 1) - log r: unbiased, low variance, never negative."""
    return log_ratio.expm1() - log_ratio
