"""Schedules as functions of training progress in [0, 1]."""

from __future__ import annotations


def linear_decay(initial: float, progress: float) -> float:
    """initial * (1 - progress), never negative; progress is the share of the environment steps already taken."""
    return initial * max(0.0, 1.0 - progress)
