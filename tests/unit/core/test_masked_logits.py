"""Masked logits against a distribution over the allowed actions alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from ppolab.core.distributions import MultiCategorical
from ppolab.core.masks import masked_alike, masked_logits
from ppolab.core.trust_region import fisher_vector_product

MASK = torch.tensor([False, True, False, True, True, True, False, True, False])
SIZES = (5, 4)  # of the components in MASK
ALLOWED = ([1, 3, 4], [0, 2])  # of each component
FAMILY = MultiCategorical(SIZES)


def logits(seed: int = 0, rows: int = 6) -> Tensor:
    """The largest logit of each component is of an action that is not allowed."""
    drawn = 3 * torch.randn((rows, sum(SIZES)), generator=torch.Generator().manual_seed(seed))
    drawn[:, 0] = drawn[:, 8] = 9.0
    return drawn


def alone(parameters: Tensor) -> list[Categorical]:
    """The distributions over the allowed values of each component."""
    return [Categorical(logits=part[:, kept]) for part, kept in zip(parameters.split(SIZES, -1), ALLOWED, strict=True)]


def places(actions: Tensor) -> list[Tensor]:
    """Actions as indices among the allowed ones."""
    return [
        torch.tensor([kept.index(int(action)) for action in column])
        for column, kept in zip(actions.T, ALLOWED, strict=True)
    ]


def drawn_actions(rows: int = 6) -> Tensor:
    return torch.tensor([[ALLOWED[0][row % 3], ALLOWED[1][row % 2]] for row in range(rows)])


def test_log_probability_entropy_and_kl_are_those_of_the_allowed_actions_alone() -> None:
    old, new, actions = logits(0), logits(1), drawn_actions()
    before, after = masked_logits(old, MASK), masked_logits(new, MASK)
    expected = sum(part.log_prob(place) for part, place in zip(alone(new), places(actions), strict=True))
    torch.testing.assert_close(FAMILY.log_prob(after, actions), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(FAMILY.entropy(after), sum(part.entropy() for part in alone(new)), atol=1e-5, rtol=0)
    divergence = sum(kl_divergence(*pair) for pair in zip(alone(old), alone(new), strict=True))
    torch.testing.assert_close(FAMILY.kl(before, after), divergence, atol=1e-5, rtol=0)


def test_gradients_are_those_of_the_allowed_actions_alone() -> None:
    old, actions = logits(0), drawn_actions()

    def ours(new: Tensor) -> Tensor:
        after = masked_logits(new, MASK)
        divergence = FAMILY.kl(masked_logits(old, MASK), after)
        return (FAMILY.log_prob(after, actions) + 2 * FAMILY.entropy(after) + 3 * divergence).sum()

    def theirs(new: Tensor) -> Tensor:
        parts = zip(alone(old), alone(new), places(actions), strict=True)
        return sum(
            (after.log_prob(place) + 2 * after.entropy() + 3 * kl_divergence(before, after)).sum()
            for before, after, place in parts
        )

    gradients = []
    for function in (ours, theirs):
        new = logits(1).requires_grad_()
        gradients.append(torch.autograd.grad(function(new), new)[0])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=0)
    assert (gradients[0][:, ~MASK] == 0).all() and (gradients[0][:, MASK] != 0).any()


def test_second_derivatives_are_finite() -> None:
    old = masked_logits(logits(0), MASK)

    def divergence(vector: Tensor) -> Tensor:
        return FAMILY.kl(old, masked_logits(vector.reshape(6, -1), MASK)).sum()

    product = fisher_vector_product(divergence, logits(0).reshape(-1))
    direction = torch.ones(6, len(MASK))
    assert product(direction.reshape(-1)).isfinite().all()
    assert (product(torch.randn(54, generator=torch.Generator().manual_seed(0))).reshape(6, -1)[:, ~MASK] == 0).all()


def test_draws_are_allowed_and_have_their_probabilities() -> None:
    parameters = masked_logits(logits(2, rows=1), MASK)
    noise = FAMILY.noise((20_000,), torch.Generator().manual_seed(0))
    actions = FAMILY.sample(parameters.expand(20_000, -1), noise)
    for component, (reference, kept) in enumerate(zip(alone(logits(2, rows=1)), ALLOWED, strict=True)):
        counts = torch.bincount(actions[:, component], minlength=SIZES[component])
        assert counts.sum() == counts[kept].sum() == 20_000
        torch.testing.assert_close(counts[kept] / 20_000, reference.probs[0], atol=0.015, rtol=0)


def test_the_most_probable_action_is_an_allowed_one() -> None:
    unmasked = logits(3)
    assert (FAMILY.mode(unmasked) == torch.tensor([0, 3])).all()
    chosen = FAMILY.mode(masked_logits(unmasked, MASK))
    expected = [[kept[int(part.probs[row].argmax())] for part, kept in zip(alone(unmasked), ALLOWED, strict=True)]
                for row in range(6)]  # fmt: skip
    assert chosen.tolist() == expected


@pytest.mark.parametrize("sizes", [(4,), (4, 2)])
def test_a_single_allowed_action_has_entropy_and_log_probability_0(sizes: tuple[int, ...]) -> None:
    family = MultiCategorical(sizes)
    mask = torch.zeros(family.parameter_size, dtype=torch.bool)
    mask[[2, *(4 for _ in sizes[1:])]] = True
    given = torch.randn((3, family.parameter_size), generator=torch.Generator().manual_seed(0)).requires_grad_()
    parameters = masked_logits(given, mask)
    only = torch.tensor([[2, 0][: len(sizes)]] * 3)
    assert (family.entropy(parameters) == 0).all()
    assert (family.log_prob(parameters, only) == 0).all()
    assert torch.equal(family.mode(parameters), only)
    total = family.entropy(parameters).sum() + family.log_prob(parameters, only).sum()
    assert (torch.autograd.grad(total, given)[0] == 0).all()


def test_masked_logits_hold_their_mask() -> None:
    collected = masked_logits(logits(0), MASK)
    assert (collected[:, ~MASK] == -1e9).all()
    assert torch.equal(collected[:, MASK], logits(0)[:, MASK])
    assert torch.equal(masked_alike(logits(1), collected), masked_logits(logits(1), MASK))
    assert torch.equal(masked_alike(logits(1), logits(0)), logits(1))
