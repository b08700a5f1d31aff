"""Make noise whose power falls with the frequency."""

from __future__ import annotations

import torch
from torch import Tensor


def colored(white: Tensor, color: float) -> Tensor:
    """Return normal noise [L, ...] along the first dimension, whose power at frequency f is proportional to f^-color.

    Every number alone is standard normal; only its neighbours in time tell of it. Power at frequency 0 is that of the
    lowest other one. Timmer and Koenig 1995, "On generating power law noise".

    Args:
        white: [2 L, ...] independent standard normal numbers. There are twice as many since the inverse transform is
            periodic: the end of a whole period would go on as its beginning.
        color: 0 white, 1 pink, 2 red.
    """
    count = len(white)
    assert count % 2 == 0, "half of the numbers are returned"
    frequencies = torch.fft.rfftfreq(count, device=white.device)
    frequencies[0] = frequencies[1]
    scale = frequencies.pow(-0.5 * color)
    power = scale.square()
    mean = (2.0 * power.sum() - power[0] - power[-1]) / count  # the others stand for two frequencies, f and -f
    scale = (scale / mean.sqrt()).reshape(-1, *[1] * (white.ndim - 1))
    noise: Tensor = torch.fft.irfft(torch.fft.rfft(white, dim=0) * scale, n=count, dim=0)
    return noise[: count // 2]
