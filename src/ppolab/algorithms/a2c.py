"""Advantage actor-critic, synchronous."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ppolab.core.losses import policy_gradient_surrogate
from ppolab.objective import Samples
from ppolab.update import Learner, Parts


def make(parts: Parts) -> Learner:
    """Mnih et al. 2016 (arXiv:1602.01783), algorithm S3: policy, value and entropy in one gradient step per rollout."""
    config = replace(parts.config, epochs=1, minibatch_size=parts.config.batch_size, target_kl=None)

    def surrogate(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        return policy_gradient_surrogate(batch.log_probs + log_ratio, batch.advantages)

    return Learner(replace(parts, config=config), surrogate)
