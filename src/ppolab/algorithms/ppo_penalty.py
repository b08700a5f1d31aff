"""PPO with a penalty on the KL divergence, whose weight may adapt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ppolab.core.losses import adapted_penalty, penalized_surrogate
from ppolab.objective import Samples
from ppolab.rollout import Rollout
from ppolab.update import Learner, Parts, UpdateStats, broken_kl, mean_divergence

HEAVIEST = 1e10
"""Beta stays within this and its inverse: beyond, the penalty is all of the objective or nothing, in float32."""


def make(parts: Parts) -> PenaltyLearner:
    """Schulman et al. 2017 (arXiv:1707.06347), section 4."""
    return PenaltyLearner(parts)


class PenaltyLearner:
    """Epochs of minibatches on equation 8. With `d_targ`, beta adapts after every update to the KL that it made.

    The KL of the penalty and the one that beta adapts to are exact, of the distributions. Only the KL of steps that
    were taken back is the estimate from actions that ended the update: their policy is gone.
    """

    def __init__(self, parts: Parts) -> None:
        settings, distribution = parts.config.algorithm, parts.policy.distribution
        self._parts = parts
        self._beta: float = settings["beta"]
        self._target: float | None = settings["d_targ"]
        self._weight = torch.tensor(self._beta, device=parts.flat.vector.device)

        def surrogate(parameters: Tensor, log_ratio: Tensor, batch: Samples, beta: Tensor) -> Tensor:
            kl = distribution.kl(batch.parameters, parameters)
            return penalized_surrogate(log_ratio, batch.advantages, kl, beta)

        if parts.native is not None:
            parts.native.penalize(self._weight)
        self._learner = Learner(parts, surrogate, (self._weight,), in_native=True)

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """As `Learner` does it; `policy/beta` is the weight that was used.

        Args:
            rewards: [T, N] the rollout's rewards, scaled. progress: see `Algorithm`.
        """
        self._weight.fill_(self._beta)
        stats = replace(self._learner.update(rollout, rewards, progress), extras={"policy/beta": self._beta})
        if self._target is not None:
            adapted = adapted_penalty(self._beta, self._kl_made(stats, rollout), self._target)
            self._beta = min(max(adapted, 1 / HEAVIEST), HEAVIEST)
        return stats

    def _kl_made(self, stats: UpdateStats, rollout: Rollout) -> float:
        """The update's KL; if steps were taken back, theirs, which a larger penalty should avoid."""
        target = self._parts.config.target_kl
        if target is not None and stats.kl > broken_kl(target):
            return stats.kl
        return mean_divergence(self._parts, rollout)

    def state(self) -> dict[str, Any]:
        """The weight of the next update, and what the epochs depend on."""
        return {"beta": self._beta, **self._learner.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._beta = state["beta"]
        self._learner.load_state(state)
