"""One number for several seeds."""

from __future__ import annotations

from collections.abc import Sequence


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half of `values`; a value on the edge counts with the share of it that lies inside.

    Agarwal et al. 2021 (arXiv:2108.13264), section 4.3: less noisy than the median, and unlike the mean not at the
    mercy of one seed. The weights are those of the continuous definition, so that it also exists for fewer than four.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("the interquartile mean of nothing")
    count = len(values)
    low, high = 0.25 * count, 0.75 * count
    total = 0.0
    for index, value in enumerate(sorted(values)):
        share = min(index + 1, high) - max(index, low)
        total += max(share, 0.0) * value
    return total / (high - low)
