"""Estimate advantages (GAE)."""

from __future__ import annotations

from torch import Tensor


def generalized_advantages(
    rewards: Tensor, values: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, gae_lambda: float
) -> Tensor:
    """Return advantages A_t [T, N] for episodes that may be terminated or truncated.

    Schulman et al. 2016 (arXiv:1506.02438), equation 16, with a factor for each way that an episode ends:

        delta_t = r_t + gamma * (1 - terminated_t) * V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma * lambda * (1 - terminated_t) * (1 - truncated_t) * A_{t+1}

    Termination means that nothing follows, so it cuts the bootstrap. Truncation only means that nobody looked further:
    the value of the real final observation s_{t+1} stands in for the rest, and only the sum over later steps is cut.

    Args:
        rewards: [T, N], r_t received after the action at time t.
        values: [T+1, N], V(s_t) for t = 0..T. Where row t ended an episode, values[t+1] must be that of its final
            observation, not of the next episode's first one.
        terminated: [T, N] bool, the task ended after row t.
        truncated: [T, N] bool, a time limit cut the episode after row t.
        gamma: discount factor.
        gae_lambda: 0 is the one-step advantage, 1 the discounted return minus the baseline.

    Returns:
        [T, N] advantages. `advantages + values[:-1]` are the lambda-returns that the value function regresses on.
    """
    steps = rewards.shape[0]
    if values.shape != (steps + 1, *rewards.shape[1:]):
        raise ValueError(f"values must be [T+1, N] for rewards [T, N]; got {values.shape} and {rewards.shape}")
    alive = (~terminated).to(values.dtype)
    deltas = rewards + gamma * alive * values[1:] - values[:-1]
    decay = gamma * gae_lambda * alive * (~truncated).to(values.dtype)
    return reverse_linear_recurrence(deltas, decay)


def reverse_linear_recurrence(inputs: Tensor, decay: Tensor) -> Tensor:
    """Return y_t = inputs_t + decay_t * y_{t+1}, with y_T = 0, along dimension 0.

    Computed by recursive doubling (Hillis & Steele 1986): log2(T) passes over whole tensors instead of T small ones.
    """
    result, carry = inputs.clone(), decay.clone()
    shift = 1
    while shift < inputs.shape[0]:
        result[:-shift] += carry[:-shift] * result[shift:]
        carry[:-shift] *= carry[shift:].clone()
        shift *= 2
    return result
