"""Advantage actor-critic, synchronous."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ppolab.core.losses import policy_gradient_surrogate
from ppolab.objective import Samples
from ppolab.rollout import Rollout
from ppolab.update import Learner, Parts, UpdateStats, mean_divergence


def make(parts: Parts) -> OneStepLearner:
    """Mnih et al. 2016 (arXiv:1602.01783), algorithm S3: policy, value and entropy in one gradient step per rollout."""
    return OneStepLearner(parts)


class OneStepLearner:
    """An epoch of one minibatch. Its KL is of the policy after the step; that of the samples is 0 before it."""

    def __init__(self, parts: Parts) -> None:
        config = replace(parts.config, epochs=1, minibatch_size=parts.config.batch_size, target_kl=None)

        def surrogate(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
            return policy_gradient_surrogate(batch.log_probs + log_ratio, batch.advantages)

        self._parts = parts
        self._learner = Learner(replace(parts, config=config), surrogate)

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """As `Learner` does it.

        Args:
            rewards: [T, N] the rollout's rewards, scaled. progress: see `Algorithm`.
        """
        stats = self._learner.update(rollout, rewards, progress)
        return replace(stats, kl=mean_divergence(self._parts, rollout))

    def state(self) -> dict[str, Any]:
        """What the step depends on besides parameters and optimizer."""
        return self._learner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._learner.load_state(state)
