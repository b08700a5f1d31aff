"""Schedules of the learning rate, the clip range and the deviation of actions."""

from __future__ import annotations


def linear(progress: float) -> float:
    """Return the factor 1 - progress, never negative; progress is the share of environment steps already taken."""
    return max(0.0, 1.0 - progress)


def constant(_progress: float) -> float:
    """Return the factor 1."""
    return 1.0


def between(start: float, end: float, progress: float) -> float:
    """Return what goes linearly from `start` to `end`, exactly these at progress 0 and from 1 on."""
    left = linear(progress)
    return left * start + (1.0 - left) * end


def followed_kl(factor: float, kl: float, target: float) -> float:
    """Return the next factor of the learning rate after an update whose KL was `kl`; within 1/100 and 100.

    Divided by 1.5 above 2 `target`, times 1.5 below `target` / 2: as Rudin et al. 2021 (arXiv:2109.11978) do it.
    """
    if kl > 2.0 * target:
        factor /= 1.5
    elif kl < target / 2.0:
        factor *= 1.5
    return min(max(factor, 0.01), 100.0)
