"""Hook callbacks into the iterations of a run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from ppolab.training.module import OnPolicyModule


class IterationCallback(pl.Callback):
    """A Lightning callback that is asked after every iteration, and once after the last.

    All ranks have the same callbacks in the same order, except those that send nothing to other ranks.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Pass on to `after_iteration`."""
        assert isinstance(pl_module, OnPolicyModule)
        self.after_iteration(trainer, pl_module, outputs)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass on to `after_training`."""
        assert isinstance(pl_module, OnPolicyModule)
        self.after_training(module=pl_module)

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Act after an iteration, which gave `metrics`."""

    def after_training(self, module: OnPolicyModule) -> None:
        """Act after the last iteration of a run that no exception ended."""


class Interval:
    """Tell when multiples of an interval of environment steps are passed.

    Args:
        steps: the interval; 0 is never. first_step: where the run begins.
    """

    def __init__(self, steps: int, first_step: int) -> None:
        self._steps = steps
        self._latest = self._nominal(first_step)

    def passed(self, steps: int) -> int | None:
        """Return the latest multiple at or below `steps`, the first time that it is passed; else None."""
        nominal = self._nominal(steps)
        if nominal == self._latest:
            return None
        self._latest = nominal
        return nominal

    def _nominal(self, steps: int) -> int:
        return steps // self._steps * self._steps if self._steps else 0
