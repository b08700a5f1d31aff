"""Compute the terms of the PPO objective (Schulman et al. 2017, arXiv:1707.06347), per sample unless named mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip: float | Tensor) -> Tensor:
    """Return L^CLIP, equation 7: min(r A, clip(r, 1-clip, 1+clip) A), to be maximized. [B].

    Args:
        log_ratio: [B], log pi_new(a|s) - log pi_old(a|s).
        advantages: [B].
        clip: epsilon, in [0, 1), a number or [].
    """
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)  # type: ignore[arg-type]


def unclipped_surrogate(log_ratio: Tensor, advantages: Tensor) -> Tensor:
    """Return L^CPI, equation 6: r A, to be maximized. [B]."""
    return log_ratio.exp() * advantages


def penalized_surrogate(log_ratio: Tensor, advantages: Tensor, kl: Tensor, beta: Tensor) -> Tensor:
    """Return L^KLPEN, equation 8: r A - beta KL(old || new), to be maximized. [B].

    Args:
        kl: [B] divergences of the action distributions.
        beta: [] weight of the penalty.
    """
    return unclipped_surrogate(log_ratio, advantages) - beta * kl


def adapted_penalty(beta: float, kl: float, target: float) -> float:
    """Return the next update's beta, by the rule below equation 8: half or double where the KL is far off."""
    if kl < target / 1.5:
        return beta / 2
    return beta * 2 if kl > target * 1.5 else beta


def policy_gradient_surrogate(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Return log pi(a|s) A, [B], whose gradient is the policy gradient (Sutton et al. 2000, theorem 1)."""
    return log_probs * advantages


def is_clipped(log_ratio: Tensor, clip: float | Tensor) -> Tensor:
    """Return [B] bool: whether the probability ratio lies outside [1-clip, 1+clip]."""
    return (log_ratio.exp() - 1.0).abs() > clip


def squared_value_error(values: Tensor, returns: Tensor) -> Tensor:
    """Return (V - R)^2 / 2, equation 9 up to its factor. [B]."""
    return 0.5 * (values - returns).square()


def clipped_value_error(values: Tensor, old_values: Tensor, returns: Tensor, value_clip: float) -> Tensor:
    """Return the larger of the squared errors of V and of V kept within value_clip of the value at collection. [B].

    Not in the paper; from the code published with it (OpenAI baselines, ppo2).
    """
    kept = old_values + (values - old_values).clamp(-value_clip, value_clip)
    return torch.maximum(squared_value_error(values, returns), squared_value_error(kept, returns))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return sum(w x) / sum(w) over all elements; weights are 1 for experience, 0 for padding, at least one is 1."""
    return (values * weights).sum() / weights.sum()


def standardized(
    values: Tensor, groups: Tensor, counts: Tensor, all_reduce: Callable[[Tensor], Tensor], epsilon: float = 1e-8
) -> Tensor:
    """Return (x - mean) / (std + epsilon), both of the group that x belongs to; other processes may have parts of it.

    The deviation is the unbiased one. A single sample has none: it is centred, not scaled.

    Args:
        values: [B].
        groups: [B] int64, the group of each.
        counts: [G] how many a group has in all processes together.
        all_reduce: sums a tensor over all processes.
    """

    def sums(addends: Tensor) -> Tensor:
        return all_reduce(addends.new_zeros(len(counts)).index_add_(0, groups, addends))

    wide = values.to(torch.float64)
    centred = wide - (sums(wide) / counts)[groups]
    variance = sums(centred.square()) / (counts - 1).clamp(min=1)
    scale = torch.where(counts > 1, variance.sqrt() + epsilon, torch.ones_like(variance))
    return (centred / scale[groups]).to(values.dtype)


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Return 1 - Var(R - V) / Var(R): 1 for a perfect value function, 0 for the mean alone, NaN if R is constant."""
    variance = returns.var(correction=0)
    explained = 1.0 - (returns - values).var(correction=0) / variance
    return torch.where(variance > 0, explained, torch.full_like(variance, torch.nan))
