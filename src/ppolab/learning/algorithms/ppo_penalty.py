"""PPO with a penalty on the KL divergence, whose weight may adapt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.core.distributions import ActionDistribution
from ppolab.core.losses import adapted_penalty, penalized_surrogate
from ppolab.learning.interface import LearnerContext, UpdateStats, mean_divergence
from ppolab.learning.kl_early_stopping import broken_kl
from ppolab.learning.learner import Learner
from ppolab.learning.objective import NativeSurrogate, Samples, Surrogate
from ppolab.learning.rollout import Rollout

HEAVIEST = 1e10
"""Beta stays within this and its inverse: beyond, the penalty is all of the objective or nothing, in float32."""


def make(context: LearnerContext) -> PenaltyLearner:
    """Return PPO with a penalty: Schulman et al. 2017 (arXiv:1707.06347), section 4."""
    return PenaltyLearner(context)


def penalizing(distribution: ActionDistribution, weight: Tensor) -> Surrogate:
    """Return the surrogate of equation 8, with a weight beta [] float32 that may change between updates."""

    def gain(parameters: Tensor, log_ratio: Tensor, batch: Samples, beta: Tensor) -> Tensor:
        kl = distribution.kl(batch.parameters, parameters)
        return penalized_surrogate(log_ratio, batch.advantages, kl, beta)

    return Surrogate(gain, (weight,), native=NativeSurrogate(penalty=weight))


class PenaltyLearner(Learner):
    """Make epochs of minibatches on equation 8. With `d_targ`, beta adapts after every update to the KL that it made.

    The KL of the penalty and the one that beta adapts to are exact, of the distributions. Only the KL of steps that
    were rolled back is the estimate from actions that ended the update: their policy is gone.
    """

    def __init__(self, context: LearnerContext) -> None:
        settings = context.config.algorithm
        self._beta: float = settings["beta"]
        self._target: float | None = settings["d_targ"]
        self._weight = torch.tensor(self._beta, dtype=torch.float32, device=context.flat.vector.device)
        super().__init__(context, penalizing(context.policy.distribution, self._weight))

    def before_update(self, _progress: float, /) -> None:
        """Set the weight of the penalty."""
        self._weight.fill_(self._beta)

    def after_update(self, stats: UpdateStats, rollout: Rollout, /) -> UpdateStats:
        """Adapt the next weight; return the statistics with `policy/beta`, the weight that was used."""
        stats = stats.with_extras({"policy/beta": self._beta})
        if self._target is not None:
            adapted = adapted_penalty(self._beta, self._kl_made(stats, rollout), self._target)
            self._beta = min(max(adapted, 1 / HEAVIEST), HEAVIEST)
        return stats

    def _kl_made(self, stats: UpdateStats, rollout: Rollout) -> float:
        """Return the update's KL; if steps were rolled back, theirs, which a larger penalty should avoid."""
        target = self.context.config.target_kl
        if target is not None and stats.kl > broken_kl(target):
            return stats.kl
        return mean_divergence(self.context, rollout)

    def state(self) -> dict[str, Any]:
        """Return the weight of the next update, and what the epochs depend on."""
        return {"beta": self._beta, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._beta = state["beta"]
        super().load_state(state)
