"""The surrogate objective as it is: nothing but KL early stopping keeps the policy near the one that collected."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.losses import unclipped_surrogate
from ppolab.learning.interface import LearnerContext
from ppolab.learning.learner import Learner
from ppolab.learning.objective import NativeSurrogate, Samples, Surrogate


def make(context: LearnerContext) -> Learner:
    """Return a learner on L^CPI of Schulman et al. 2017 (arXiv:1707.06347), equation 6, in epochs of minibatches."""
    return Learner(context, UNCLIPPED)


def _gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
    return unclipped_surrogate(log_ratio, batch.advantages)


UNCLIPPED = Surrogate(_gain, native=NativeSurrogate())
