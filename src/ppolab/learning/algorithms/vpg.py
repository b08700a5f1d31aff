"""Vanilla policy gradient with a baseline."""

from __future__ import annotations

from torch import Tensor

from ppolab.core.losses import policy_gradient_surrogate
from ppolab.learning.entropy_coefficient import EntropyCoefficient
from ppolab.learning.interface import LearnerContext, actor_parameters
from ppolab.learning.objective import Samples
from ppolab.learning.optimizer import clip_norm, learning_rate, make_optimizer, set_learning_rate
from ppolab.learning.policy_step_learner import ActorOnBatch, PolicyStep, SeparateLearner


def make(context: LearnerContext) -> SeparateLearner:
    """Return a learner that makes one policy gradient step per rollout, with a baseline and GAE.

    Sutton et al. 2000, theorem 1; the baseline: Williams 1992.

    The policy has an optimizer of its own, of the configured kind: the value function's many steps would otherwise
    carry the policy along on its momentum.
    """
    config, distribution = context.config, context.policy.distribution
    entropy_coef = EntropyCoefficient(config, context.flat.vector.device)
    actor = actor_parameters(context).copied()
    vector, optimizer = actor.vector, make_optimizer(config, actor)

    def objective(parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        gain = policy_gradient_surrogate(batch.log_probs + log_ratio, batch.advantages)
        return gain + entropy_coef.value * distribution.entropy(parameters)

    def step(batch: ActorOnBatch, before: Tensor) -> PolicyStep:
        vector.data.copy_(before)
        vector.grad, norm = clip_norm(-batch.gradient(objective, before), config.max_grad_norm)
        set_learning_rate(optimizer, learning_rate(context.optimizer))  # which the schedule has set
        optimizer.step()
        return PolicyStep(vector.detach().clone(), float(norm))

    return SeparateLearner(context, step, optimizer, entropy_coef)
