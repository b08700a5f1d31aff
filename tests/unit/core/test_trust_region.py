"""Conjugate gradient, Fisher products and step lengths against matrices that are written out."""

from __future__ import annotations

import math

import pytest
import torch
from fisher import explicit_fisher
from gymnasium import spaces
from helpers import make_context, random_rollout, tiny_config
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, jacrev

from ppolab.core.observation_rows import RowLayout
from ppolab.core.trust_region import backtracked, conjugate_gradient, damped, fisher_vector_product, step_of_length
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.experience import Experience
from ppolab.learning.interface import LearnerContext, actor_parameters
from ppolab.learning.policy_step_learner import ActorOnBatch

INPUTS = 3
SPACES: dict[str, spaces.Space] = {
    "Box": spaces.Box(-1, 1, (2,)),
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(2),
}


def positive_definite(size: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    root = torch.randn((size, size), generator=rng, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_conjugate_gradient_solves_the_equations(size: int, seed: int) -> None:
    matrix = positive_definite(size, seed)
    target = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    solution = conjugate_gradient(lambda v: matrix @ v, target, 20 * size, tolerance=1e-24)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target), rtol=1e-6, atol=1e-6)


def test_each_step_of_conjugate_gradient_comes_closer() -> None:
    matrix = positive_definite(30, 0)
    target = torch.ones(30, dtype=torch.float64)
    best = torch.linalg.solve(matrix, target)
    errors = []
    for steps in (0, 1, 5, 15, 30):
        error = conjugate_gradient(lambda v: matrix @ v, target, steps) - best
        errors.append(float(error @ matrix @ error))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-4 * errors[0]


def test_nothing_to_solve_needs_no_product() -> None:
    def never(_: Tensor) -> Tensor:
        raise AssertionError

    assert conjugate_gradient(never, torch.zeros(4), 10).tolist() == [0.0] * 4


def test_damping_adds_a_multiple_of_the_identity() -> None:
    product = damped(lambda v: 2 * v, 0.5)
    assert product(torch.tensor([1.0, -2.0])).tolist() == [2.5, -5.0]


def test_the_step_has_the_length_that_its_quadratic_model_wants() -> None:
    """F = 2 I, x = (3, 4): x'Fx = 50, so the step is sqrt(0.02 / 50) = 0.02 times x."""
    step = step_of_length(torch.tensor([3.0, 4.0]), lambda v: 2 * v, 0.01)
    assert step.tolist() == pytest.approx([0.06, 0.08])
    assert step_of_length(torch.zeros(2), lambda v: 2 * v, 0.01).tolist() == [0.0, 0.0]


def test_the_longest_acceptable_fraction_is_taken() -> None:
    tried: list[float] = []

    def accepts(fraction: float) -> bool:
        tried.append(fraction)
        return fraction < 0.3

    assert backtracked(accepts, 10, 0.5) == 0.25
    assert tried == [1.0, 0.5, 0.25]
    assert backtracked(lambda _: False, 4, 0.5) == 0.0


# --- the Fisher matrix of a policy -----------------------------------------------------------------------------------


def batch_of(space: str, **settings: object) -> tuple[LearnerContext, ActorOnBatch, Tensor]:
    """A small policy in double precision, a whole batch of what it collected, and the actor's parameters."""
    config = tiny_config("probe/Diary-v0", algorithm="trpo", **{"model.hidden_sizes": [5], **settings})
    torch.manual_seed(0)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(SPACES[space]), config.model, normalize=False).double()
    with torch.no_grad():
        policy.action_head.weight.mul_(50.0)
    torch.set_default_dtype(torch.float64)
    try:
        rollout = random_rollout(policy, INPUTS)
    finally:
        torch.set_default_dtype(torch.float32)
    parts = make_context(policy, config)
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)
    actor = actor_parameters(parts)
    return parts, ActorOnBatch(parts, actor, samples), actor.read()


@pytest.mark.parametrize("space", SPACES)
def test_fisher_products_equal_the_explicit_matrix(space: str) -> None:
    parts, batch, vector = batch_of(space)
    matrix = explicit_fisher(parts, batch, vector)
    product = batch.fisher(vector)
    ours = torch.stack([product(row) for row in torch.eye(len(vector), dtype=torch.float64)])
    assert matrix.abs().max() > 0.01
    torch.testing.assert_close(ours, matrix, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(ours, ours.T, rtol=1e-8, atol=1e-10)


def test_fisher_products_equal_the_mean_outer_product_of_scores() -> None:
    """E[score score'] over all three actions, by their probabilities."""
    parts, batch, vector = batch_of("Discrete")
    policy, actor = parts.policy, actor_parameters(parts)

    def log_probs(point: Tensor) -> Tensor:
        named = {**dict(policy.named_parameters()), **actor.substitutes(point)}
        return functional_call(policy, named, (batch._samples.observations,))[0].log_softmax(-1)

    scores: Tensor = jacrev(log_probs)(vector)  # [B, 3, K]
    weights = log_probs(vector).exp() / len(scores)
    matrix = torch.einsum("ba,bak,bal->kl", weights, scores, scores)
    product = batch.fisher(vector)
    ours = torch.stack([product(row) for row in torch.eye(len(vector), dtype=torch.float64)])
    torch.testing.assert_close(ours, matrix, rtol=1e-8, atol=1e-10)


def test_fisher_products_are_the_hessian_of_the_divergence() -> None:
    """KL(N(0, 1) || N(m, exp(s))) has the Hessian diag(1, 2) at m = s = 0."""

    def divergence(point: Tensor) -> Tensor:
        mean, log_std = point
        return log_std + (1 + mean**2) / (2 * (2 * log_std).exp()) - 0.5

    product = fisher_vector_product(divergence, torch.zeros(2))
    assert product(torch.tensor([1.0, 0.0])).tolist() == pytest.approx([1.0, 0.0])
    assert product(torch.tensor([3.0, 0.5])).tolist() == pytest.approx([3.0, 1.0])


def test_the_divergence_of_a_small_step_is_its_quadratic_model() -> None:
    _, batch, vector = batch_of("Box")
    direction = batch.gradient(batch.surrogate, vector)
    for max_kl in (1e-4, 1e-6):
        step = step_of_length(direction, batch.fisher(vector), max_kl)
        (kl,) = batch.means(vector + step, batch.divergence)
        assert kl == pytest.approx(max_kl, rel=10 * math.sqrt(max_kl))
