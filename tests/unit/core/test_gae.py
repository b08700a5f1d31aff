"""Generalized advantages against a plain loop, and the cases an episode's end makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ppolab.core.gae import generalized_advantages, reverse_linear_recurrence


def looped(rewards, values, terminated, truncated, gamma: float, gae_lambda: float) -> np.ndarray:
    """One environment and one step at a time, as the definition reads."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for env in range(envs):
        following = 0.0
        for t in range(steps - 1, -1, -1):
            bootstrap = 0.0 if terminated[t, env] else gamma * values[t + 1, env]
            if terminated[t, env] or truncated[t, env]:
                following = 0.0
            following = rewards[t, env] + bootstrap - values[t, env] + gamma * gae_lambda * following
            advantages[t, env] = following
    return advantages


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def flags(steps: int, *true_at: int) -> Tensor:
    result = torch.zeros((steps, 1), dtype=torch.bool)
    result[list(true_at)] = True
    return result


@given(
    steps=st.integers(1, 70),
    envs=st.integers(1, 4),
    ends=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_a_plain_loop(steps: int, envs: int, ends: float, gamma: float, gae_lambda: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(steps, envs)), rng.normal(size=(steps + 1, envs))
    terminated, truncated = rng.random((steps, envs)) < ends, rng.random((steps, envs)) < ends
    result = generalized_advantages(
        *map(torch.from_numpy, (rewards, values, terminated, truncated)), gamma=gamma, gae_lambda=gae_lambda
    )
    np.testing.assert_allclose(result, looped(rewards, values, terminated, truncated, gamma, gae_lambda), atol=1e-11)


def test_literal_example() -> None:
    # deltas: 1 + 0.5*4 - 2 = 1;  2 + 0.5*6 - 4 = 1;  3 + 0.5*8 - 6 = 1.  decay 0.5 * 0.5 = 0.25
    result = generalized_advantages(column(1, 2, 3), column(2, 4, 6, 8), flags(3), flags(3), gamma=0.5, gae_lambda=0.5)
    assert result[:, 0].tolist() == [1.3125, 1.25, 1.0]


def test_termination_cuts_bootstrap_and_sum() -> None:
    result = generalized_advantages(
        column(1, 2, 3), column(2, 4, 6, 8), flags(3, 1), flags(3), gamma=0.5, gae_lambda=0.5
    )
    assert result[:, 0].tolist() == [1.0 + 0.25 * (2 - 4), 2 - 4, 1.0]


def test_truncation_bootstraps_from_the_final_observation_but_cuts_the_sum() -> None:
    result = generalized_advantages(
        column(1, 2, 3), column(2, 4, 6, 8), flags(3), flags(3, 1), gamma=0.5, gae_lambda=0.5
    )
    assert result[:, 0].tolist() == [1.25, 2 + 0.5 * 6 - 4, 1.0]


def test_an_end_that_is_both_counts_as_termination() -> None:
    arguments = (column(1, 2, 3), column(2, 4, 6, 8), flags(3, 1))
    both = generalized_advantages(*arguments, flags(3, 1), gamma=0.5, gae_lambda=0.5)
    assert both.equal(generalized_advantages(*arguments, flags(3), gamma=0.5, gae_lambda=0.5))


def test_lambda_one_is_the_discounted_return_minus_the_value() -> None:
    rewards, values = torch.randn((6, 2), dtype=torch.float64), torch.randn((7, 2), dtype=torch.float64)
    none = torch.zeros((6, 2), dtype=torch.bool)
    result = generalized_advantages(rewards, values, none, none, gamma=0.9, gae_lambda=1.0)
    for t in range(6):
        discounts = 0.9 ** torch.arange(6 - t, dtype=torch.float64)
        returns = (discounts[:, None] * rewards[t:]).sum(0) + 0.9 ** (6 - t) * values[-1]
        torch.testing.assert_close(result[t] + values[t], returns)


def test_lambda_zero_is_the_one_step_error() -> None:
    rewards, values = torch.randn((6, 2), dtype=torch.float64), torch.randn((7, 2), dtype=torch.float64)
    none = torch.zeros((6, 2), dtype=torch.bool)
    result = generalized_advantages(rewards, values, none, none, gamma=0.9, gae_lambda=0.0)
    torch.testing.assert_close(result, rewards + 0.9 * values[1:] - values[:-1])


@pytest.mark.parametrize("shape", [(3, 2), (5, 2), (4, 3), (4,)])
def test_values_of_the_wrong_shape_raise(shape: tuple[int, ...]) -> None:
    none = torch.zeros((3, 2), dtype=torch.bool)
    with pytest.raises(ValueError, match=r"values must be \[T\+1, N\]"):
        generalized_advantages(torch.zeros((3, 2)), torch.zeros(shape), none, none, gamma=0.9, gae_lambda=0.9)


@pytest.mark.parametrize("terminates", [True, False])
def test_a_reset_row_does_not_influence_the_others(terminates: bool) -> None:
    rewards, values = torch.randn((7, 1)), torch.randn((8, 1))
    ended = flags(7, 2)
    terminated, truncated = (ended, flags(7)) if terminates else (flags(7), ended)
    before = generalized_advantages(rewards, values, terminated, truncated, gamma=0.9, gae_lambda=0.9)
    rewards[3] = 1000.0
    if terminates:
        values[3] = 1000.0  # after a truncation this is the final observation's value, which row 2 needs
    after = generalized_advantages(rewards, values, terminated, truncated, gamma=0.9, gae_lambda=0.9)
    others = [0, 1, 2, 4, 5, 6]
    assert after[others].equal(before[others])
    assert after[3] != before[3]


def test_recurrence_leaves_its_inputs_alone() -> None:
    inputs, decay = torch.randn((9, 2)), torch.rand((9, 2))
    copies = inputs.clone(), decay.clone()
    reverse_linear_recurrence(inputs, decay)
    assert inputs.equal(copies[0]) and decay.equal(copies[1])
