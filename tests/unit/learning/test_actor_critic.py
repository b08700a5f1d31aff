"""Networks for every action space, and their parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import drawn, make_config
from torch import nn
from torch.func import functional_call

from ppolab.core.distributions import Bernoulli, DiagonalGaussian, Joint, MultiCategorical
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor_critic import ActorCritic, action_distribution, evaluating, training
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.optimizer import clip_norm

ACTION_SPACES = {
    "Box": (spaces.Box(-1, 1, (3,)), DiagonalGaussian(3), 6),
    "Box of rank 2": (spaces.Box(-1, 1, (2, 2)), DiagonalGaussian(4), 8),
    "Box of rank 0": (spaces.Box(-1, 1, ()), DiagonalGaussian(1), 2),
    "Discrete": (spaces.Discrete(4), MultiCategorical((4,)), 4),
    "MultiDiscrete": (spaces.MultiDiscrete([2, 5]), MultiCategorical((2, 5)), 7),
    "MultiBinary": (spaces.MultiBinary(3), Bernoulli(3), 3),
    "Dict": (
        spaces.Dict(amount=spaces.Box(-1, 1, (2,)), kind=spaces.Discrete(4), lamps=spaces.MultiBinary(3)),
        Joint((MultiCategorical((4,)), Bernoulli(3), DiagonalGaussian(2))),
        11,
    ),
    "nested Tuple": (
        spaces.Tuple((spaces.Dict(x=spaces.Box(-1, 1, ())), spaces.MultiDiscrete([2, 5]), spaces.Discrete(3))),
        Joint((MultiCategorical((2, 5, 3)), DiagonalGaussian(1))),
        12,
    ),
    "Tuple of one kind": (spaces.Tuple((spaces.Discrete(4), spaces.Discrete(2))), MultiCategorical((4, 2)), 6),
    "Tuple of Boxes": (spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Box(0, 9, (2, 1)))), DiagonalGaussian(4), 8),
}


def make_policy(space: spaces.Space = ACTION_SPACES["Box"][0], inputs: int = 5, **model) -> ActorCritic:
    torch.manual_seed(0)
    config = make_config(**{f"model.{key}": value for key, value in model.items()})
    return ActorCritic(RowLayout(inputs), action_distribution(space), config.model, normalize=True)


@pytest.mark.parametrize("trunk", ["separate", "shared"])
@pytest.mark.parametrize("name", ACTION_SPACES)
def test_every_action_space_gets_its_distribution(name: str, trunk: str) -> None:
    space, distribution, size = ACTION_SPACES[name]
    policy = make_policy(space, trunk=trunk)
    assert policy.distribution == distribution
    parameters, values = policy(torch.randn((7, 2, 5)))
    assert parameters.shape == (7, 2, size)
    assert values.shape == (7, 2)
    assert drawn(policy.distribution, parameters).shape == (7, 2, *distribution.action_shape)


@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_values_and_action_parameters_equal_the_whole_forward(trunk: str) -> None:
    policy = make_policy(trunk=trunk)
    observations = torch.randn((7, 5))
    parameters, values = policy(observations)
    assert policy.values(observations).equal(values)
    assert policy.action_parameters(observations).equal(parameters)


def test_a_separate_critic_shares_nothing_with_the_actor() -> None:
    policy = make_policy(trunk="separate")
    policy.values(torch.randn((7, 5))).sum().backward()
    touched = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert touched and all(name.startswith(("critic", "value_head")) for name in touched)


def test_a_shared_trunk_feeds_both_heads() -> None:
    policy = make_policy(trunk="shared")
    assert policy.critic is None
    policy.values(torch.randn((7, 5))).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.actor.parameters())


@pytest.mark.parametrize(
    ("activation", "layer"),
    [("tanh", nn.Tanh), ("relu", nn.ReLU), ("elu", nn.ELU), ("gelu", nn.GELU), ("silu", nn.SiLU)],
)
def test_layers_are_what_the_settings_say(activation: str, layer: type[nn.Module]) -> None:
    policy = make_policy(hidden_sizes=[8, 6], activation=activation)
    kinds = [(type(module), getattr(module, "out_features", None)) for module in policy.actor]
    assert kinds == [(nn.Linear, 8), (layer, None), (nn.Linear, 6), (layer, None)]


def test_actor_and_critic_have_sizes_of_their_own() -> None:
    policy = make_policy(hidden_sizes=[8], actor_sizes=[5, 4], critic_sizes=[])
    assert [tuple(layer.weight.shape) for layer in policy.modules() if isinstance(layer, nn.Linear)] == [
        (5, 5), (4, 5), (3, 4), (1, 5),
    ]  # fmt: skip
    same = make_policy(hidden_sizes=[8], actor_sizes=[8], critic_sizes=[8])
    for one, two in zip(same.parameters(), make_policy(hidden_sizes=[8]).parameters(), strict=True):
        assert one.equal(two)
    assert make_policy(hidden_sizes=[8], critic_sizes=[6]).actor[0].out_features == 8


def test_no_hidden_layer_is_a_linear_policy() -> None:
    policy = make_policy(hidden_sizes=[])
    one, other = torch.randn((2, 5))
    means = [policy.action_parameters(x)[:3] for x in (one, other, one + other, torch.zeros(5))]
    torch.testing.assert_close(means[0] + means[1], means[2] + means[3])


def test_dropout_acts_only_while_training() -> None:
    policy = make_policy(dropout=0.5)
    observations = torch.randn((7, 5))
    policy.eval()
    assert policy.values(observations).equal(policy.values(observations))
    policy.train()
    assert not policy.values(observations).equal(policy.values(observations))


@pytest.mark.parametrize("mode", [evaluating, training])
@pytest.mark.parametrize("found", [True, False])
def test_a_block_in_a_mode_ends_in_the_mode_it_began_in(mode: Callable[..., Any], found: bool) -> None:
    policy = make_policy(dropout=0.5).train(found)
    wanted = mode is training
    with mode(policy):
        assert {module.training for module in policy.modules()} == {wanted}
        with mode(policy):
            pass
        assert policy.training == wanted
    assert {module.training for module in policy.modules()} == {found}
    with pytest.raises(ZeroDivisionError), mode(policy):
        raise ZeroDivisionError
    assert policy.training == found


def test_without_dropout_training_and_acting_are_the_same() -> None:
    policy = make_policy(dropout=0.0)
    observations = torch.randn((7, 5))
    assert policy.train().values(observations).equal(policy.eval().values(observations))


def test_orthogonal_weights_have_their_gains_and_zero_biases() -> None:
    policy = make_policy(orthogonal=True, hidden_sizes=[8, 8])
    gains = {"actor.0": math.sqrt(2), "critic.2": math.sqrt(2), "action_head": 0.01, "value_head": 1.0}
    for name, gain in gains.items():
        layer = policy.get_submodule(name)
        singular = torch.linalg.svdvals(layer.weight)
        torch.testing.assert_close(singular, torch.full_like(singular, gain), rtol=1e-4, atol=0)
        assert not layer.bias.any()


def test_default_weights_are_not_orthogonal() -> None:
    singular = torch.linalg.svdvals(make_policy(orthogonal=False).value_head.weight)
    assert abs(singular.item() - 1.0) > 1e-3


def test_initial_log_std() -> None:
    policy = make_policy(initial_log_std=-0.75)
    parameters = policy.action_parameters(torch.randn((4, 5)))
    assert parameters[:, 3:].tolist() == [[-0.75] * 3] * 4
    assert "log_std" in dict(policy.named_parameters())


def test_the_deviations_of_a_joint_distribution_come_last() -> None:
    policy = make_policy(ACTION_SPACES["Dict"][0], initial_log_std=-0.75)
    assert policy.action_parameters(torch.randn((4, 5)))[:, 9:].tolist() == [[-0.75] * 2] * 4
    assert policy.log_std.shape == (2,) and policy.action_head.out_features == 9
    policy = make_policy(ACTION_SPACES["Dict"][0], initial_log_std=-0.75, state_dependent_std=True)
    assert policy.log_std is None and policy.action_head.out_features == 11
    assert policy.action_head.bias.tolist() == [0.0] * 9 + [-0.75] * 2


@pytest.mark.parametrize("name", ["Discrete", "MultiDiscrete", "MultiBinary", "Tuple of one kind"])
def test_discrete_policies_have_no_log_std(name: str) -> None:
    assert make_policy(ACTION_SPACES[name][0]).log_std is None


# --- parameters as one vector ----------------------------------------------------------------------------------------


def test_flattening_keeps_every_value() -> None:
    policy, reference = make_policy(), make_policy()
    flat = flatten_parameters(policy)
    assert flat.names == tuple(name for name, _ in reference.named_parameters())
    assert flat.vector.numel() == sum(parameter.numel() for parameter in reference.parameters())
    for name, parameter in reference.named_parameters():
        assert policy.get_parameter(name).equal(parameter)


def test_vector_and_module_share_storage() -> None:
    policy = make_policy()
    flat = flatten_parameters(policy)
    with torch.no_grad():
        flat.vector.zero_()
    assert not any(parameter.any() for parameter in policy.parameters())
    with torch.no_grad():
        policy.log_std.fill_(3.0)
    assert flat.named(flat.vector)["log_std"].tolist() == [3.0] * 3
    assert flat.vector.sum().item() == pytest.approx(9.0)


def test_load_state_dict_writes_through_to_the_vector() -> None:
    policy, other = make_policy(), make_policy(initial_log_std=2.0)
    flat = flatten_parameters(policy)
    pointer = flat.vector.data_ptr()
    policy.load_state_dict(other.state_dict())
    assert flat.vector.data_ptr() == pointer
    assert flat.vector.equal(torch.cat([parameter.reshape(-1) for parameter in other.parameters()]))


def test_state_dict_is_an_ordinary_one() -> None:
    policy, plain = make_policy(), make_policy()
    flatten_parameters(policy)
    assert list(policy.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(policy.state_dict())


def test_gradient_by_the_vector_equals_ordinary_autograd() -> None:
    policy, reference = make_policy(), make_policy()
    flat = flatten_parameters(policy)
    observations, targets = torch.randn((9, 5)), torch.randn((9, 3))

    def loss(parameters, values):
        return (policy.distribution.log_prob(parameters, targets) + values.square()).mean()

    vector = flat.vector.detach().clone().requires_grad_()
    loss(*functional_call(policy, flat.named(vector), (observations,))).backward()
    loss(*reference(observations)).backward()
    ordinary = torch.cat([parameter.grad.reshape(-1) for parameter in reference.parameters()])
    torch.testing.assert_close(vector.grad, ordinary)


@pytest.mark.parametrize("max_norm", [0.01, 0.5, 100.0])
def test_clip_norm_equals_torch(max_norm: float) -> None:
    gradient = torch.randn(50)
    parameter = nn.Parameter(torch.zeros(50))
    parameter.grad = gradient.clone()
    norm = nn.utils.clip_grad_norm_([parameter], max_norm)
    clipped, before = clip_norm(gradient, max_norm)
    torch.testing.assert_close(clipped, parameter.grad)
    torch.testing.assert_close(before, norm)


def test_clip_norm_zero_leaves_the_gradient_alone() -> None:
    gradient = 1e6 * torch.randn(50)
    clipped, norm = clip_norm(gradient, 0.0)
    assert clipped.equal(gradient)
    assert norm.item() == pytest.approx(np.linalg.norm(gradient.numpy()), rel=1e-5)
