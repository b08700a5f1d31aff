"""Random numbers of many worlds that follow from counters alone, so that a checkpoint holds two integers per world.

The generator is SplitMix64 (Steele, Lea and Flood 2014): number n of a stream is a mixing function of
`start + n * GAMMA`. Every episode of every world has a stream of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAMMA = -0x61C8864680B583EB
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The constants of SplitMix64 as signed numbers of 64 bits, whose products wrap around."""
BITS = 53
"""Of a uniform number."""


class Draws:
    """The numbers that N worlds draw for their next episodes, one stream for each world and episode.

    Args:
        seeds: [N] int64, of the worlds. episodes: [N] int64, how many a world began before.
    """

    def __init__(self, seeds: Tensor, episodes: Tensor) -> None:
        self._starts = _mixed(_mixed(seeds + GAMMA) + episodes * GAMMA)
        self._drawn = 0

    def uniform(self, columns: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return [N, columns] float64 of [low, high)."""
        counters = torch.arange(self._drawn + 1, self._drawn + columns + 1, device=self._starts.device)
        self._drawn += columns
        words = _mixed(self._starts[:, None] + counters * GAMMA)
        return low + (high - low) * (_shifted(words, 64 - BITS).double() * 2.0**-BITS)

    def normal(self, columns: int) -> Tensor:
        """Return [N, columns] float64 of the standard normal distribution (Box and Muller 1958)."""
        radii = torch.sqrt(-2.0 * torch.log1p(-self.uniform(columns)))
        return radii * torch.cos(2.0 * math.pi * self.uniform(columns))


def _mixed(words: Tensor) -> Tensor:
    words = (words ^ _shifted(words, 30)) * FIRST
    words = (words ^ _shifted(words, 27)) * SECOND
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, places: int) -> Tensor:
    """Return int64 shifted to the right as if it had no sign."""
    return (words >> places) & ((1 << (64 - places)) - 1)
