"""PPO with the clipped surrogate objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.core.losses import clipped_surrogate
from ppolab.learning.interface import LearnerContext, UpdateStats
from ppolab.learning.learner import Learner
from ppolab.learning.objective import NativeSurrogate, Samples, Surrogate
from ppolab.learning.optimizer import make_optimizer
from ppolab.learning.rollout import Rollout
from ppolab.learning.schedules import Schedule, clip_schedule
from ppolab.learning.value_learner import ValueRegression


def make(context: LearnerContext) -> Learner:
    """Return PPO in epochs of minibatches: Schulman et al. 2017 (arXiv:1707.06347), equation 7."""
    config = context.config
    regression = _value_regression(context) if config.algorithm["value_epochs"] is not None else None
    schedule = clip_schedule(config)
    if schedule is not None:
        return ScheduledClipLearner(context, schedule, regression)
    return Learner(context, clipping(config.clip), value_regression=regression)


def clipping(clip: float) -> Surrogate:
    """Return the surrogate with a constant clip range."""

    def gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        return clipped_surrogate(log_ratio, batch.advantages, clip)

    return Surrogate(gain, clip_range=clip, native=NativeSurrogate())


def scheduled_clipping(clip: Tensor) -> Surrogate:
    """Return the surrogate with a clip range [] float64 that may change between updates."""

    def gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples, clip: Tensor) -> Tensor:
        return clipped_surrogate(log_ratio, batch.advantages, clip.to(log_ratio.dtype))

    return Surrogate(gain, (clip,), clip_range=clip, native=NativeSurrogate())


class ScheduledClipLearner(Learner):
    """Make the same updates with a clip range that follows a schedule."""

    def __init__(
        self, context: LearnerContext, schedule: Schedule, value_regression: ValueRegression | None = None
    ) -> None:
        self._initial = context.config.clip
        self._schedule = schedule
        self._is_logged = context.config.algorithm.get("clip_schedule") is not None
        self._clip = torch.tensor(self._initial, dtype=torch.float64, device=context.flat.vector.device)
        super().__init__(context, scheduled_clipping(self._clip), value_regression=value_regression)

    def before_update(self, progress: float, /) -> None:
        """Set the clip range, which follows from `progress` alone."""
        self._clip.fill_(self._initial * self._schedule.factor(progress))

    def after_update(self, stats: UpdateStats, _rollout: Rollout, /) -> UpdateStats:
        """Return the statistics with `policy/clip`, which runs from before there were schedules do not have."""
        return stats.with_extras({"policy/clip": float(self._clip)}) if self._is_logged else stats


def _value_regression(context: LearnerContext) -> ValueRegression:
    """Return one pass at a time, with an optimizer of the configured kind."""
    optimizer = make_optimizer(context.config, context.flat)
    return ValueRegression(context, 1, value_coef=context.config.value_coef, own_optimizer=optimizer)
