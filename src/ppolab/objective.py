"""The PPO objective of one minibatch, as a function of what the networks put out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ppolab.config import Config
from ppolab.core.distributions import ActionDistribution
from ppolab.core.kl import kl_k3
from ppolab.core.losses import (
    clipped_surrogate,
    clipped_value_error,
    is_clipped,
    squared_value_error,
    weighted_mean,
)


class Samples(NamedTuple):
    """Flat experience; each tensor has B rows, or [minibatches, B] after shuffling."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor


class LossTerms(NamedTuple):
    """Minibatch means, except that the last two are sums over its samples."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    clip_fraction: Tensor
    kl_sum: Tensor
    samples: Tensor


MEANS = LossTerms._fields[:-2]
"""The terms that are means."""

Objective = Callable[[Tensor, Tensor, Samples], tuple[Tensor, Tensor]]
"""(distribution parameters [B, P], values [B], minibatch) -> (loss [], LossTerms as one tensor)."""


def ppo_objective(distribution: ActionDistribution, config: Config) -> Objective:
    """Schulman et al. 2017 (arXiv:1707.06347), equation 9, to be minimized."""
    value_clip = config.algorithm.value_clip

    def objective(parameters: Tensor, values: Tensor, batch: Samples) -> tuple[Tensor, Tensor]:
        log_ratio = distribution.log_prob(parameters, batch.actions) - batch.log_probs
        surrogate = weighted_mean(clipped_surrogate(log_ratio, batch.advantages, config.clip), batch.weights)
        if value_clip is None:
            errors = squared_value_error(values, batch.returns)
        else:
            errors = clipped_value_error(values, batch.values, batch.returns, value_clip)
        value_error = weighted_mean(errors, batch.weights)
        entropy = weighted_mean(distribution.entropy(parameters), batch.weights)
        loss = -surrogate + config.value_coef * value_error - config.entropy_coef * entropy
        clipped = weighted_mean(is_clipped(log_ratio, config.clip).to(values.dtype), batch.weights)
        kl_sum = (kl_k3(log_ratio) * batch.weights).sum()
        terms = LossTerms(-surrogate, value_error, entropy, clipped, kl_sum, batch.weights.sum())
        return loss, torch.stack(terms).detach()

    return objective
