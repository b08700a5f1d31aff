"""PPO with the clipped surrogate objective."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.core.schedules import linear_decay
from ppolab.objective import annealed_clipped, clipped
from ppolab.parameters import make_optimizer
from ppolab.rollout import Rollout
from ppolab.update import Algorithm, Learner, Parts, UpdateStats
from ppolab.value_function import ValueFunction


def make(parts: Parts) -> Algorithm:
    """Schulman et al. 2017 (arXiv:1707.06347), equation 7, in epochs of minibatches; in C++ where that can be had."""
    settings = parts.config.algorithm
    alone = value_function(parts) if settings["value_epochs"] is not None else None
    if settings["anneal_clip"]:
        return AnnealedClipLearner(parts, alone)
    return Learner(parts, clipped(parts.config.clip), in_native=True, value_function=alone)


def value_function(parts: Parts) -> ValueFunction:
    """One pass at a time, with an optimizer of the configured kind."""
    return ValueFunction(parts, 1, make_optimizer(parts.config, parts.flat.vector))


class AnnealedClipLearner:
    """The same with a clip range that falls linearly to 0."""

    def __init__(self, parts: Parts, alone: ValueFunction | None) -> None:
        self._initial = parts.config.clip
        self._native = parts.native
        self._clip = torch.tensor(self._initial, device=parts.flat.vector.device)
        self._learner = Learner(parts, annealed_clipped, (self._clip,), in_native=True, value_function=alone)

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """As `Learner` does it.

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
            progress: share of the run's environment steps taken before this update.
        """
        clip = linear_decay(self._initial, progress)
        self._clip.fill_(clip)
        if self._native is not None:
            self._native.clip_at(clip)
        return self._learner.update(rollout, rewards, progress)

    def state(self) -> dict[str, Any]:
        """What the epochs depend on; the clip range follows from the steps taken."""
        return self._learner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._learner.load_state(state)
