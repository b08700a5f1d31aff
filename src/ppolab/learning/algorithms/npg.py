"""Natural policy gradient."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.trust_region import conjugate_gradient, damped, step_of_length
from ppolab.separate import ActorOnBatch, SeparateLearner, Step
from ppolab.update import Parts


def make(parts: Parts) -> SeparateLearner:
    """Kakade 2001, equation 1; the step has the length of Rajeswaran et al. 2017 (arXiv:1703.02660), equation 5."""
    settings = parts.config.algorithm

    def step(batch: ActorOnBatch, before: Tensor) -> Step:
        gradient = batch.gradient(batch.surrogate, before)
        fisher = damped(batch.fisher(before), settings["damping"])
        direction = conjugate_gradient(fisher, gradient, settings["cg_steps"])
        return Step(before + step_of_length(direction, fisher, settings["max_kl"]), float(gradient.norm()))

    return SeparateLearner(parts, step)
