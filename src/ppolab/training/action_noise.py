"""Draw the noise that turns distributions into actions: white, or coloured along the time of each environment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.core.colored_noise import colored
from ppolab.core.distributions import ActionDistribution, gaussian_size

REMEMBERED = 1024
"""Coloured noise is drawn for at least so many steps at a time; later ones are independent of them."""


class ActionNoise:
    """Draw noise for rollouts of T steps of N environments; continuous actions may have coloured noise.

    Hollenstein et al. 2024 (AAAI) explore with noise between white and pink in PPO. Each environment
    and each component of its action has a sequence of its own, which goes on through episodes and rollouts.

    Args:
        generator: the only source of random numbers.
        color: what the power of the noise is, 1 / f^color; 0: independent draws.
    """

    def __init__(self, generator: torch.Generator, color: float, rollout_steps: int) -> None:
        self._generator = generator
        self._color = color
        self._duration = rollout_steps
        self._length = -(-REMEMBERED // rollout_steps) * rollout_steps
        self._sequences: Tensor | None = None  # [L, N, A]
        self._begun: Tensor | None = None  # the generator's state before they were drawn
        self._taken = 0  # steps of them

    def draw(self, distribution: ActionDistribution, num_envs: int) -> Tensor:
        """Return noise [T, N, ...] for `sample` of the distribution; choices and bits get independent draws."""
        noise = distribution.noise((self._duration, num_envs), self._generator)
        size = gaussian_size(distribution)
        if self._color == 0 or size == 0:
            return noise
        if self._begun is None or self._taken == self._length:
            self._begun, self._taken, self._sequences = self._generator.get_state(), 0, None
            self._sequences = self._drawn(self._generator, num_envs, size)
        elif self._sequences is None:  # after `restore`
            again = torch.Generator(self._generator.device)
            again.set_state(self._begun)
            self._sequences = self._drawn(again, num_envs, size)
        noise[..., -size:] = self._sequences[self._taken : self._taken + self._duration]
        self._taken += self._duration
        return noise

    def _drawn(self, generator: torch.Generator, num_envs: int, size: int) -> Tensor:
        white = torch.randn((2 * self._length, num_envs, size), generator=generator, device=generator.device)
        return colored(white, self._color)

    def state(self) -> dict[str, Any] | None:
        """Return what `restore` needs besides the generator's state; None where draws are independent."""
        return None if self._begun is None else {"begun": self._begun.clone(), "taken": self._taken}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from what `state` gave, with a generator that is where it was then."""
        self._sequences = None
        self._begun, self._taken = (None, 0) if state is None else (state["begun"], state["taken"])
