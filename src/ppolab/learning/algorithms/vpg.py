"""Vanilla policy gradient with a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.core.losses import policy_gradient_surrogate
from ppolab.objective import Samples
from ppolab.parameters import clip_norm, make_optimizer
from ppolab.separate import ActorOnBatch, SeparateLearner, Step
from ppolab.update import Parts, actor_of


def make(parts: Parts) -> SeparateLearner:
    """Sutton et al. 2000, theorem 1, with a baseline (Williams 1992) and GAE: one step of the policy per rollout.

    The policy has an optimizer of its own, of the configured kind: the value function's many steps would otherwise
    carry the policy along on its momentum.
    """
    config, distribution = parts.config, parts.policy.distribution
    vector = torch.nn.Parameter(actor_of(parts).read())
    optimizer = make_optimizer(config, vector)

    def objective(parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        gain = policy_gradient_surrogate(batch.log_probs + log_ratio, batch.advantages)
        return gain + config.entropy_coef * distribution.entropy(parameters)

    def step(batch: ActorOnBatch, before: Tensor) -> Step:
        vector.data.copy_(before)
        vector.grad, norm = clip_norm(-batch.gradient(objective, before), config.max_grad_norm)
        optimizer.param_groups[0]["lr"] = parts.optimizer.param_groups[0]["lr"]  # which the schedule has set
        optimizer.step()
        return Step(vector.detach().clone(), float(norm))

    return SeparateLearner(parts, step, optimizer)
