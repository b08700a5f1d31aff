"""PPO with the clipped surrogate objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.core.losses import clipped_surrogate
from ppolab.core.schedules import linear_decay
from ppolab.learning.interface import LearnerContext
from ppolab.learning.learner import Learner
from ppolab.learning.objective import NativeSurrogate, Samples, Surrogate
from ppolab.learning.optimizer import make_optimizer
from ppolab.learning.value_learner import ValueRegression


def make(context: LearnerContext) -> Learner:
    """Return PPO in epochs of minibatches: Schulman et al. 2017 (arXiv:1707.06347), equation 7."""
    config = context.config
    regression = _value_regression(context) if config.algorithm["value_epochs"] is not None else None
    if config.algorithm["anneal_clip"]:
        return AnnealedClipLearner(context, regression)
    return Learner(context, clipping(config.clip), value_regression=regression)


def clipping(clip: float) -> Surrogate:
    """Return the surrogate with a constant clip range."""

    def gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        return clipped_surrogate(log_ratio, batch.advantages, clip)

    return Surrogate(gain, clip_range=clip, native=NativeSurrogate())


def annealed_clipping(clip: Tensor) -> Surrogate:
    """Return the surrogate with a clip range [] float64 that may change between updates."""

    def gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples, clip: Tensor) -> Tensor:
        return clipped_surrogate(log_ratio, batch.advantages, clip.to(log_ratio.dtype))

    return Surrogate(gain, (clip,), clip_range=clip, native=NativeSurrogate())


class AnnealedClipLearner(Learner):
    """Make the same updates with a clip range that falls linearly to 0."""

    def __init__(self, context: LearnerContext, value_regression: ValueRegression | None) -> None:
        self._initial = context.config.clip
        self._clip = torch.tensor(self._initial, dtype=torch.float64, device=context.flat.vector.device)
        super().__init__(context, annealed_clipping(self._clip), value_regression=value_regression)

    def before_update(self, progress: float, /) -> None:
        """Set the clip range, which follows from `progress` alone."""
        self._clip.fill_(linear_decay(self._initial, progress))


def _value_regression(context: LearnerContext) -> ValueRegression:
    """Return one pass at a time, with an optimizer of the configured kind."""
    optimizer = make_optimizer(context.config, context.flat)
    return ValueRegression(context, 1, value_coef=context.config.value_coef, own_optimizer=optimizer)
