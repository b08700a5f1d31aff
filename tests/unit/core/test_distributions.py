"""Every distribution against torch.distributions and against its own samples."""

from __future__ import annotations

import pytest
import torch
from helpers import drawn
from torch import Tensor, distributions
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from ppolab.core.distributions import Bernoulli, DiagonalGaussian, Joint, MultiCategorical, gaussian_size

ROWS = 6
FAMILIES = [
    DiagonalGaussian(3),
    MultiCategorical((4,)),
    MultiCategorical((2, 5, 3)),
    MultiCategorical((1, 3)),
    Bernoulli(4),
    Joint((MultiCategorical((2, 4)), DiagonalGaussian(3))),
    Joint((MultiCategorical((3,)), Bernoulli(2), DiagonalGaussian(1))),
    Joint((MultiCategorical((3, 2)), Bernoulli(2))),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def references(family, parameters: Tensor) -> list[distributions.Distribution]:
    """torch.distributions whose log-probabilities, entropies and divergences add up to the family's."""
    if isinstance(family, Joint):
        sizes = [part.parameter_size for part in family.parts]
        pairs = zip(family.parts, parameters.split(sizes, -1), strict=True)
        return [reference for part, own in pairs for reference in references(part, own)]
    if isinstance(family, DiagonalGaussian):
        mean, log_std = parameters.chunk(2, -1)
        return [Independent(Normal(mean, log_std.exp()), 1)]
    if isinstance(family, Bernoulli):
        return [Independent(distributions.Bernoulli(logits=parameters), 1)]
    return [Categorical(logits=logits) for logits in parameters.split(list(family.sizes), -1)]


def reference_log_prob(family, parameters: Tensor, actions: Tensor) -> Tensor:
    if isinstance(family, Joint):
        total, column = 0.0, 0
        for part, own in zip(family.parts, parameters.split([p.parameter_size for p in family.parts], -1), strict=True):
            chosen = actions[..., column : column + part.action_shape[0]]
            total = total + reference_log_prob(part, own, chosen.long() if part.action_dtype == torch.int64 else chosen)
            column += part.action_shape[0]
        return total
    parts = references(family, parameters)
    if isinstance(family, MultiCategorical):
        return sum(part.log_prob(actions[..., index]) for index, part in enumerate(parts))
    return parts[0].log_prob(actions.to(parameters.dtype))


def random_parameters(family, seed: int = 0, rows: tuple[int, ...] = (ROWS,)) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn((*rows, family.parameter_size), generator=rng)


@every_family
def test_log_prob_equals_torch(family) -> None:
    parameters = random_parameters(family, rows=(5, ROWS))
    actions = drawn(family, parameters)
    torch.testing.assert_close(
        family.log_prob(parameters, actions), reference_log_prob(family, parameters, actions), rtol=1e-5, atol=1e-5
    )


@every_family
def test_entropy_equals_torch(family) -> None:
    parameters = random_parameters(family)
    expected = sum(part.entropy() for part in references(family, parameters))
    torch.testing.assert_close(family.entropy(parameters), expected, rtol=1e-5, atol=1e-5)


@every_family
def test_kl_equals_torch(family) -> None:
    old, new = random_parameters(family, 0), random_parameters(family, 1)
    pairs = zip(references(family, old), references(family, new), strict=True)
    torch.testing.assert_close(family.kl(old, new), sum(kl_divergence(*pair) for pair in pairs), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(family.kl(old, old), torch.zeros(ROWS), rtol=0, atol=1e-6)


@every_family
def test_samples_have_the_entropy_and_the_divergence(family) -> None:
    old, new = (random_parameters(family, seed, ()).expand(40_000, -1) for seed in (2, 3))
    actions = drawn(family, old, 0)
    surprise = -family.log_prob(old, actions)
    log_ratio = family.log_prob(old, actions) - family.log_prob(new, actions)
    for estimates, exact in ((surprise, family.entropy(old[0])), (log_ratio, family.kl(old[0], new[0]))):
        assert abs(estimates.mean() - exact) < 4 * estimates.std() / 200 + 1e-6


@every_family
def test_shapes_and_types(family) -> None:
    parameters = random_parameters(family, rows=(5, ROWS))
    for actions in (drawn(family, parameters), family.mode(parameters)):
        assert actions.shape == (5, ROWS, *family.action_shape)
        assert actions.dtype == family.action_dtype
    assert family.entropy(parameters).shape == family.log_prob(parameters, actions).shape == (5, ROWS)


@every_family
def test_a_generator_makes_samples_reproducible(family) -> None:
    parameters = random_parameters(family, rows=(50,))
    first, second, other = (drawn(family, parameters, seed) for seed in (7, 7, 8))
    assert first.equal(second)
    assert not first.equal(other)


@every_family
def test_no_action_is_more_probable_than_the_mode(family) -> None:
    parameters = random_parameters(family, rows=(200, 1))
    actions = drawn(family, parameters.expand(200, 50, -1))
    best = family.log_prob(parameters, family.mode(parameters))
    assert (family.log_prob(parameters.expand(200, 50, -1), actions) <= best + 1e-6).all()


def test_gaussian_samples_have_its_mean_and_deviation() -> None:
    parameters = torch.tensor([1.0, -2.0, 0.0, -1.0])
    actions = drawn(DiagonalGaussian(2), parameters.expand(100_000, -1), 0)
    torch.testing.assert_close(actions.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.015)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.0, -1.0]).exp(), rtol=0.01, atol=0)
    assert abs(torch.corrcoef(actions.T)[0, 1]) < 0.02


@pytest.mark.parametrize("sizes", [(3,), (2, 4, 3)])
def test_categorical_frequencies_are_the_probabilities(sizes: tuple[int, ...]) -> None:
    family, draws = MultiCategorical(sizes), 60_000
    parameters = random_parameters(family, 4, ())
    actions = drawn(family, parameters.expand(draws, -1), 0)
    for index, part in enumerate(references(family, parameters)):
        frequencies = torch.bincount(actions[:, index], minlength=sizes[index]) / draws
        assert len(frequencies) == sizes[index]  # padding is never drawn
        torch.testing.assert_close(frequencies, part.probs, rtol=0, atol=4 * 0.5 / draws**0.5)


def test_bernoulli_frequencies_are_the_probabilities() -> None:
    family, draws = Bernoulli(3), 60_000
    parameters = torch.tensor([-2.0, 0.0, 1.5])
    actions = drawn(family, parameters.expand(draws, -1), 0)
    assert set(actions.unique().tolist()) == {0, 1}
    torch.testing.assert_close(actions.float().mean(0), parameters.sigmoid(), rtol=0, atol=4 * 0.5 / draws**0.5)


def test_literal_log_probs() -> None:
    gaussian = DiagonalGaussian(1).log_prob(torch.tensor([0.0, 0.0]), torch.tensor([1.0]))
    assert gaussian.item() == pytest.approx(-1.4189385)
    categorical = MultiCategorical((2, 3)).log_prob(torch.zeros(5), torch.tensor([1, 2]))
    assert categorical.item() == pytest.approx(-1.7917595)  # log(1/2 * 1/3)
    assert Bernoulli(2).log_prob(torch.zeros(2), torch.tensor([0, 1])).item() == pytest.approx(-1.3862944)


def test_a_joint_distribution_is_of_independent_parts() -> None:
    """Choice 2 of 3 at even odds, bit 1 at even odds, and 1.0 of a standard normal: the logarithms add up."""
    family = Joint((MultiCategorical((3,)), Bernoulli(1), DiagonalGaussian(1)))
    even, chosen = torch.zeros(6), torch.tensor([2.0, 1.0, 1.0])
    assert family.log_prob(even, chosen).item() == pytest.approx(-1.0986123 - 0.6931472 - 1.4189385)
    assert family.entropy(even).item() == pytest.approx(1.0986123 + 0.6931472 + 1.4189385)
    moved = even + torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, 0.0])  # the mean alone
    assert family.kl(even, moved).item() == pytest.approx(2.0)
    assert family.mode(torch.tensor([0.0, 3.0, 1.0, -0.5, 0.25, 0.0])).tolist() == [1.0, 0.0, 0.25]
    assert (family.action_dtype, family.noise_shape, gaussian_size(family)) == (torch.float32, (5,), 1)
    whole = Joint((MultiCategorical((3,)), Bernoulli(2)))
    assert (whole.action_dtype, whole.action_shape, gaussian_size(whole)) == (torch.int64, (3,), 0)


def test_the_parts_of_a_joint_draw_take_their_own_noise() -> None:
    family = Joint((MultiCategorical((3, 2)), Bernoulli(1), DiagonalGaussian(2)))
    parameters = random_parameters(family, rows=(50,))
    noise = family.noise((50,), torch.Generator().manual_seed(3))
    sizes = [part.parameter_size for part in family.parts]
    alone = [
        part.sample(own, drawn.reshape(50, *part.noise_shape))
        for part, own, drawn in zip(family.parts, parameters.split(sizes, -1), noise.split([6, 1, 2], -1), strict=True)
    ]
    assert family.sample(parameters, noise).equal(torch.cat([part.float() for part in alone], -1))


def test_a_choice_among_many_survives_beside_a_number() -> None:
    family = Joint((MultiCategorical((70_001,)), DiagonalGaussian(1)))
    parameters = torch.zeros(70_003)
    parameters[70_000] = 50.0
    assert family.mode(parameters)[0].item() == 70_000
    assert family.log_prob(parameters, family.mode(parameters)).item() == pytest.approx(-0.9189385)


@pytest.mark.parametrize("family", [MultiCategorical((2, 3)), Bernoulli(5)], ids=str)
def test_certain_policies_stay_finite(family) -> None:
    certain = torch.full((5,), 500.0) * torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0])
    certain.requires_grad_()
    entropy, kl = family.entropy(certain), family.kl(certain, -certain.detach())
    (entropy + family.log_prob(certain, family.mode(certain))).sum().backward()
    assert entropy.item() == pytest.approx(0.0, abs=1e-6)
    assert kl.isfinite() and certain.grad.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_gradient_of_log_prob_equals_torch(family) -> None:
    parameters = random_parameters(family).requires_grad_()
    actions = drawn(family, parameters.detach())
    ours = torch.autograd.grad(family.log_prob(parameters, actions).sum(), parameters)[0]
    theirs = torch.autograd.grad(reference_log_prob(family, parameters, actions).sum(), parameters)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
