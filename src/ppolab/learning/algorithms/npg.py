"""Natural policy gradient."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.trust_region import conjugate_gradient, damped, step_of_length
from ppolab.learning.interface import LearnerContext
from ppolab.learning.policy_step_learner import ActorOnBatch, PolicyStep, SeparateLearner


def make(context: LearnerContext) -> SeparateLearner:
    """Return a learner that makes one natural gradient step per rollout: Kakade 2001, equation 1.

    The step has the length of Rajeswaran et al. 2017 (arXiv:1703.02660), equation 5.
    """
    settings = context.config.algorithm

    def step(batch: ActorOnBatch, before: Tensor) -> PolicyStep:
        gradient = batch.gradient(batch.surrogate, before)
        fisher = damped(batch.fisher(before), settings["damping"])
        direction = conjugate_gradient(fisher, gradient, settings["cg_steps"])
        return PolicyStep(before + step_of_length(direction, fisher, settings["max_kl"]), float(gradient.norm()))

    return SeparateLearner(context, step)
