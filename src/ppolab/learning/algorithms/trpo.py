"""Trust region policy optimization."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.trust_region import backtracked, conjugate_gradient, damped, step_of_length
from ppolab.learning.interface import LearnerContext
from ppolab.learning.policy_step_learner import ActorOnBatch, PolicyStep, SeparateLearner


def make(context: LearnerContext) -> SeparateLearner:
    """Return a learner that makes one step per rollout within a trust region.

    Schulman et al. 2015 (arXiv:1502.05477), equation 14 and appendix C: the natural gradient's step, shortened until
    the surrogate has become better and the mean KL is within `max_kl`; no step where no length does.
    `policy/step_fraction` is how much of it was made.
    """
    settings = context.config.algorithm

    def step(batch: ActorOnBatch, before: Tensor) -> PolicyStep:
        gradient = batch.gradient(batch.surrogate, before)
        fisher = damped(batch.fisher(before), settings["damping"])
        direction = conjugate_gradient(fisher, gradient, settings["cg_steps"])
        whole = step_of_length(direction, fisher, settings["max_kl"])
        (surrogate_before,) = batch.means(before, batch.surrogate)

        def accepts(fraction: float) -> bool:
            surrogate, kl = batch.means(before + fraction * whole, batch.surrogate, batch.divergence)
            return surrogate > surrogate_before and kl <= settings["max_kl"]

        fraction = backtracked(accepts, settings["line_search_steps"], settings["backtrack"])
        return PolicyStep(before + fraction * whole, float(gradient.norm()), {"policy/step_fraction": fraction})

    return SeparateLearner(context, step)
