"""Weigh the bonus for entropy, by a number that may follow a schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.learning.schedules import entropy_schedule


class EntropyCoefficient:
    """Hold `entropy_coef` times the factor of `entropy_schedule`.

    Attributes:
        value: a number, or where there is a schedule a tensor [] float64 that `follow` sets in place.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self._initial = config.entropy_coef
        self._schedule = entropy_schedule(config)
        self.value: float | Tensor = self._initial
        if self._schedule is not None:
            self.value = torch.tensor(self._initial, dtype=torch.float64, device=device)

    def follow(self, progress: float) -> None:
        """Set the value, which follows from `progress` alone.

        Raises:
            ScheduleError: see `Schedule.factor`.
        """
        if self._schedule is not None and isinstance(self.value, Tensor):
            self.value.fill_(self._initial * self._schedule.factor(progress))

    def metrics(self) -> dict[str, float]:
        """Return `policy/entropy_coef` where there is a schedule."""
        return {} if self._schedule is None else {"policy/entropy_coef": float(self.value)}
