"""The objective of one minibatch, as a function of what the networks put out."""

from __future__ import annotations

import math
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
from ppolab.family import reads


class Samples(NamedTuple):
    """Flat experience; each tensor has B rows, or [minibatches, B] after shuffling.

    `parameters` [B, P] of the action distributions, `log_probs` and `values` are those of the collecting policy.
    """

    observations: Tensor
    actions: Tensor
    parameters: Tensor
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

Surrogate = Callable[..., Tensor]
"""What an algorithm wants of the policy: (distribution parameters [B, P], log pi_new(a|s) - log pi_old(a|s) [B],
minibatch, *inputs) -> [B], whose mean is to be maximized."""


def annealed_clipped(_parameters: Tensor, log_ratio: Tensor, batch: Samples, clip: Tensor) -> Tensor:
    """`clipped_surrogate` as such, with a clip range [] that may change between updates."""
    return clipped_surrogate(log_ratio, batch.advantages, clip)


def clipped(clip: float) -> Surrogate:
    """`clipped_surrogate` as such: the one that the C++ code computes, too."""

    def surrogate(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        return clipped_surrogate(log_ratio, batch.advantages, clip)

    return surrogate


Objective = Callable[..., tuple[Tensor, Tensor]]
"""(distribution parameters [B, P], values [B], minibatch, *inputs) -> (loss [], LossTerms as one tensor)."""


def actor_critic_objective(distribution: ActionDistribution, config: Config, surrogate: Surrogate) -> Objective:
    """Schulman et al. 2017 (arXiv:1707.06347), equation 9, with any surrogate; to be minimized."""
    value_clip, anneals = config.algorithm.get("value_clip"), config.algorithm.get("anneal_clip", False)

    def objective(parameters: Tensor, values: Tensor, batch: Samples, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        log_ratio = distribution.log_prob(parameters, batch.actions) - batch.log_probs
        gain = weighted_mean(surrogate(parameters, log_ratio, batch, *inputs), batch.weights)
        if value_clip is None:
            errors = squared_value_error(values, batch.returns)
        else:
            errors = clipped_value_error(values, batch.values, batch.returns, value_clip)
        value_error = weighted_mean(errors, batch.weights)
        entropy = weighted_mean(distribution.entropy(parameters), batch.weights)
        loss = -gain + config.value_coef * value_error - config.entropy_coef * entropy
        clip = inputs[0] if anneals else clip_of(config)
        clipped = weighted_mean(is_clipped(log_ratio, clip).to(values.dtype), batch.weights)
        kl_sum = (kl_k3(log_ratio) * batch.weights).sum()
        terms = LossTerms(-gain, value_error, entropy, clipped, kl_sum, batch.weights.sum())
        return loss, torch.stack(terms).detach()

    return objective


def clip_of(config: Config) -> float:
    """`clip`, or infinity if the algorithm clips nothing."""
    return config.clip if reads(config.algorithm, "clip") else math.inf
