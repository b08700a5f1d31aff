"""Advantage actor-critic, synchronous."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ppolab.core.losses import policy_gradient_surrogate
from ppolab.learning.interface import LearnerContext, UpdateStats, mean_divergence
from ppolab.learning.learner import Learner
from ppolab.learning.objective import Samples, Surrogate
from ppolab.learning.rollout import Rollout


def make(context: LearnerContext) -> OneStepLearner:
    """Return a learner that makes one gradient step on policy, value and entropy per rollout.

    Mnih et al. 2016 (arXiv:1602.01783), algorithm S3.
    """
    return OneStepLearner(context)


class OneStepLearner(Learner):
    """Make one epoch of one minibatch. Its KL is that of the policy after the step; before the step it is 0."""

    def __init__(self, context: LearnerContext) -> None:
        config = replace(context.config, epochs=1, minibatch_size=context.config.batch_size, target_kl=None)
        super().__init__(replace(context, config=config), Surrogate(_gain))

    def after_update(self, stats: UpdateStats, rollout: Rollout, /) -> UpdateStats:
        """Return the statistics with the KL that the step made."""
        return replace(stats, kl=mean_divergence(self.context, rollout))


def _gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
    return policy_gradient_surrogate(batch.log_probs + log_ratio, batch.advantages)
