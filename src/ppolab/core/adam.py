"""Step parameters with Adam, as pure tensor operations on many vectors at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamSettings:
    """What PyTorch's Adam and AdamW are told, besides the learning rate.

    Attributes:
        decoupled: weight decay shrinks the parameters themselves (Loshchilov and Hutter 2019, arXiv:1711.05101); else
            it is added to the gradient.
    """

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool


class Stepped(NamedTuple):
    """Parameters [M, P], and what Adam keeps: mean and square of gradients [M, P], number of steps [M]."""

    vector: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor


def adam_step(before: Stepped, gradient: Tensor, rate: Tensor, settings: AdamSettings) -> Stepped:
    """Return M vectors after one step of Adam each: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1.

    The root of the corrected square is taken, then eps is added, as PyTorch does.

    Args:
        gradient: [M, P].
        rate: [M] float64, the learning rates.
    """
    vector, mean, square, steps = before
    beta1, beta2 = settings.betas
    rate = rate[:, None]
    if settings.maximize:
        gradient = -gradient
    if settings.weight_decay and settings.decoupled:
        vector = vector * (1.0 - rate * settings.weight_decay).to(vector.dtype)
    elif settings.weight_decay:
        gradient = gradient + settings.weight_decay * vector
    steps = steps + 1
    mean = torch.lerp(mean, gradient, 1.0 - beta1)
    square = beta2 * square + (1.0 - beta2) * gradient.square()
    made = steps.double()[:, None]
    size = (rate / (1.0 - beta1**made)).to(vector.dtype)
    root = (1.0 - beta2**made).sqrt().to(vector.dtype)
    return Stepped(vector - size * mean / (square.sqrt() / root + settings.eps), mean, square, steps)
