"""Stop a trial of a study that others have outdone."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from ppolab.config.metrics import objective_names
from ppolab.config.schema import Config
from ppolab.training.callbacks.callback_base import Interval, IterationCallback
from ppolab.training.module import OnPolicyModule
from ppolab.training.recorder import RunRecorder
from ppolab.training.trial import TrialOfStudy


class Pruning(IterationCallback):
    """Report the objective after every evaluation but the last, and stop if the study says so.

    It is reported at the multiple of `eval_interval` that was passed. A study compares trials at equal steps only, and
    evaluations come at different ones, since rows that only reset an environment are not counted.

    Attributes:
        pruned: the study stopped the run.

    Args:
        trial, recorder: of the first rank, which reports; None on others, and outside a study.
    """

    def __init__(
        self, config: Config, first_step: int, trial: TrialOfStudy | None, recorder: RunRecorder | None
    ) -> None:
        self.pruned = False
        self._objective = objective_names(config)[0]
        self._interval = Interval(config.steps_between_evaluations, first_step)
        self._trial = trial
        self._recorder = recorder

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Report if there was an evaluation."""
        nominal_step = self._interval.passed(module.steps)
        if nominal_step and not trainer.should_stop:
            self.pruned = module.group.broadcast(self._is_outdone(nominal_step))
            trainer.should_stop = self.pruned

    def _is_outdone(self, step: int) -> bool:
        if self._trial is None or self._recorder is None:
            return False
        value = self._recorder.metrics.get(self._objective, math.nan)
        return math.isfinite(value) and self._trial.report(step, value)
