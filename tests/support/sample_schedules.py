"""Schedules as a user writes them, for `lr_schedule=sample_schedules:NAME`."""

from __future__ import annotations

import math

import numpy as np


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def half(progress: float) -> np.float32:
    return np.float32(0.5)


def raises(progress: float) -> float:
    raise LookupError("no such rate")


def raises_late(progress: float) -> float:
    if 0 < progress < 0.25:
        raise LookupError("no such rate")
    return 1.0


def not_a_number(progress: float) -> float:
    return math.nan


def negative(progress: float) -> float:
    return 0.5 - progress


def sixfold(progress: float) -> float:
    return 6.0


def text(progress: float) -> str:
    return "fast"


class Warmup:
    """A class, where a function is wanted; its instances are functions."""

    def __call__(self, progress: float) -> float:
        return min(1.0, 10 * progress)


warmup = Warmup()
number = 0.5
