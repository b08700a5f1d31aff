"""The surrogate objective as it is: nothing but KL early stopping keeps the policy near the one that collected."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.losses import unclipped_surrogate
from ppolab.objective import Samples
from ppolab.update import Learner, Parts


def make(parts: Parts) -> Learner:
    """L^CPI of Schulman et al. 2017 (arXiv:1707.06347), equation 6, in epochs of minibatches."""

    def surrogate(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        return unclipped_surrogate(log_ratio, batch.advantages)

    return Learner(parts, surrogate, in_native=True)
