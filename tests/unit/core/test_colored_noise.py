"""Coloured noise has the spectrum that it is asked for, and single numbers that are standard normal."""

from __future__ import annotations

import math

import pytest
import torch

from ppolab.core.colored_noise import colored


def noise(color: float, length: int = 1024, count: int = 400) -> torch.Tensor:
    return colored(torch.randn((2 * length, count), generator=torch.Generator().manual_seed(0)), color)


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0, 1.5])
def test_power_falls_with_the_frequency_as_the_color_says(color: float) -> None:
    """Bartlett's estimate over 400 sequences; the ends of the spectrum suffer from the finite length."""
    window = torch.hann_window(1024).unsqueeze(1)
    power = torch.fft.rfft(noise(color) * window, dim=0).abs().square().mean(1)[8:400]
    frequency = torch.arange(8, 400, dtype=torch.float32)
    x, y = frequency.log(), power.log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert float(slope) == pytest.approx(-color, abs=0.02)


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0, 2.0])
def test_a_number_alone_is_standard_normal_at_every_time(color: float) -> None:
    numbers = noise(color, length=64, count=20_000)
    assert numbers.shape == (64, 20_000)
    assert numbers.mean(1).abs().max() < 5 / math.sqrt(20_000)
    assert (numbers.square().mean(1) - 1).abs().max() < 5 * math.sqrt(2 / 20_000)
    inside = (numbers.abs() < 1).float().mean()
    assert float(inside) == pytest.approx(0.6827, abs=0.002)


def test_white_noise_stays_what_it_was() -> None:
    white = torch.randn((128, 3), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(colored(white, 0.0), white[:64])


def test_neighbours_in_time_are_alike_and_the_end_knows_nothing_of_the_beginning() -> None:
    numbers = noise(1.0, length=512, count=4_000)
    assert float((numbers[:-1] * numbers[1:]).mean()) > 0.7
    nearby, far = float((numbers[0] * numbers[1]).mean()), float((numbers[0] * numbers[-1]).mean())
    assert nearby > 0.7
    assert abs(far) < 0.15


def test_sequences_do_not_know_each_other() -> None:
    numbers = noise(1.0, count=2)
    many = colored(torch.randn((256, 4_000, 2), generator=torch.Generator().manual_seed(2)), 1.0)
    assert numbers.shape == (1024, 2)
    assert abs(float((many[..., 0] * many[..., 1]).mean())) < 0.01
