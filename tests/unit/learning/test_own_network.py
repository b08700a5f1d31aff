"""Networks of the user's own: what they are in a policy, what trains them, and what is wrong with those that break."""

from __future__ import annotations

import copy
import logging
import math
from pathlib import Path
from typing import Any

import probe_envs  # noqa: F401 -- registers probe/Diary-v0
import pytest
import sample_networks
import torch
from gradients import BOX, DISCRETE, INPUTS, algorithm_config, gradient_of, new_policy, random_batch
from helpers import make_config, make_context, ppo_objective, random_rollout
from modules import whole_and_resumed
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppolab.agents.policy import check_network
from ppolab.config.algorithms import algorithm_names
from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.errors import ConfigError, NetworkError
from ppolab.learning.actor_critic import ActorCritic, action_distribution, evaluating
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.native import native_policy
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.own_network import OwnTrunk, own_trunk
from ppolab.training.run import run

KINDS = ["Residual", "Dropping", "Tied", "TiedWeights", "PartlyFrozen", "Lazy", "of_layers", "nothing_to_learn"]


def config_of(name: str, algorithm: str = "ppo_clip", **settings: Any) -> Config:
    own = {"model.network": f"sample_networks:{name}", "model.hidden_sizes": [64, 64]}
    return algorithm_config(algorithm, **(own | settings))


def trunk_of(name: str, size: int = INPUTS, **kwargs: Any) -> OwnTrunk:
    return own_trunk(RowLayout(size), config_of(name, **({"+model.kwargs": kwargs} if kwargs else {})).model)


# --- in a policy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["separate", "shared"])
@pytest.mark.parametrize("name", KINDS)
def test_ppolab_adds_the_heads_to_features_of_any_batch(name: str, trunk: str) -> None:
    policy = new_policy(config_of(name, **{"model.trunk": trunk})).eval()
    observations = torch.randn((7, 2, INPUTS))
    parameters, values = policy(observations)
    assert parameters.shape == (7, 2, 4) and values.shape == (7, 2)
    assert isinstance(policy.actor, OwnTrunk) and (policy.critic is None) == (trunk == "shared")
    features = policy.actor.network(observations.view(14, INPUTS))
    expected = policy.action_head(features)
    torch.testing.assert_close(policy.action_parameters(observations)[..., :2].reshape(14, 2), expected)
    assert policy.values(observations).equal(values)
    alone = policy.values(observations[0, 0])
    torch.testing.assert_close(alone, values[0, 0])


def test_arguments_go_to_the_network() -> None:
    assert trunk_of("Residual").width == 16
    assert trunk_of("Residual", width=9).width == 9
    assert len(trunk_of("of_layers", layers=3).network) == 3


def test_the_user_s_weights_stay_and_the_heads_get_theirs() -> None:
    policies = [new_policy(config_of("Residual", **{"model.orthogonal": choice})) for choice in (True, False)]
    torch.manual_seed(0)
    alone = [sample_networks.Residual(INPUTS) for _ in range(2)]
    for policy in policies:
        for trunk, expected in zip((policy.actor, policy.critic), alone, strict=True):
            assert all(map(torch.equal, trunk.parameters(), expected.parameters()))
    head = policies[0].value_head.weight.detach()
    torch.testing.assert_close(head.norm(), torch.tensor(1.0))
    assert not math.isclose(float(policies[1].value_head.weight.detach().norm()), 1.0, rel_tol=1e-3)


@pytest.mark.parametrize("name", ["Residual", "Dropping"])
def test_checking_a_network_draws_no_random_numbers(name: str) -> None:
    states = []
    for make in (lambda: trunk_of(name), lambda: getattr(sample_networks, name)(INPUTS)):
        torch.manual_seed(0)
        made = make()
        assert made.training
        states.append(torch.get_rng_state())
    assert states[0].equal(states[1])


def test_actor_and_critic_draw_different_weights_even_if_these_are_found_out_late() -> None:
    policy = new_policy(config_of("Lazy"))
    first, second = (next(iter(part.parameters())) for part in (policy.actor, policy.critic))
    assert not first.equal(second)


def test_native_code_leaves_it_to_pytorch() -> None:
    policy = new_policy(config_of("of_layers"))
    flat = flatten_parameters(policy)
    assert native_policy(policy, flat) is None
    assert unknown_to_native(policy, flat) == "model.network=sample_networks:of_layers is a network of your own"


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["Box", "Discrete"])
@pytest.mark.parametrize("name", ["Residual", "Tied", "TiedWeights", "PartlyFrozen", "nothing_to_learn"])
def test_the_gradient_is_that_of_ordinary_backpropagation(name: str, space: Any) -> None:
    config = config_of(name, entropy_coef=0.01)
    policy = new_policy(config, space)
    batch = random_batch(policy, 24, seed=0)
    plain = copy.deepcopy(policy)
    loss, _ = ppo_objective(plain, config).function(*plain(batch.observations), batch)
    loss.backward()
    flat = flatten_parameters(policy)
    gradient, _ = gradient_of(policy, flat, config)(flat.vector.detach(), *batch)
    wanted = {key: each.grad for key, each in plain.named_parameters() if each.requires_grad}
    found = flat.named(gradient)
    assert set(found) == set(wanted)
    for key, expected in wanted.items():
        torch.testing.assert_close(found[key], expected, rtol=1e-5, atol=1e-7)
    assert all(isinstance(each, nn.Parameter) and each.is_leaf for each in policy.parameters())
    copy.deepcopy(policy)  # PyTorch refuses to copy what is no leaf


def test_a_traced_graph_computes_the_same() -> None:
    """What is compiled for long runs."""
    config = config_of("TiedWeights")
    policy = new_policy(config)
    flat = flatten_parameters(policy)
    gradient = whole_gradient(policy, flat, ppo_objective(policy, config))
    arguments = (flat.vector.detach(), *random_batch(policy, 24, seed=0))
    graph = make_fx(gradient)(*arguments)
    others = (arguments[0] * 1.1, *random_batch(policy, 24, seed=1))
    torch.testing.assert_close(graph(*others), gradient(*others))


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Residual", "Dropping", "Rounds", "Tied", "TiedWeights", "PartlyFrozen"])
@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_algorithm_trains_it(algorithm: str, name: str) -> None:
    context = make_context(new_policy(config_of(name, algorithm, **{"optimizer.lr": 1e-2})), config_of(name, algorithm))
    rollout = random_rollout(context.policy, INPUTS)
    before = copy.deepcopy(context.policy.state_dict())
    stats = make_algorithm(context).update(rollout, rollout.rewards)
    assert stats.value_loss > 0 and context.flat.vector.isfinite().all()
    same = {key for key, each in context.policy.state_dict().items() if each.equal(before[key])}
    frozen = {f"{part}.network.encoder.{kind}" for part in ("actor", "critic") for kind in ("weight", "bias")}
    fixed = {key for key in before if key.startswith("observation_scale.")}
    assert same == fixed | (frozen if name == "PartlyFrozen" else set())


def test_a_value_function_with_a_scale_of_its_own_keeps_its_values() -> None:
    config = config_of("Residual", normalize_values=True, **{"optimizer.lr": 1e-12})
    context = make_context(new_policy(config), config)
    rollout = random_rollout(context.policy, INPUTS)
    learner = make_algorithm(context)
    before = context.policy.values(rollout.observations).detach()
    learner.update(rollout, 3 * rollout.rewards + 5)
    after = learner._value_scale.restored(context.policy.values(rollout.observations))
    torch.testing.assert_close(before, after.detach().float(), rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_updates_alone() -> None:
    config = config_of("Dropping")
    policy = new_policy(config)
    observations = torch.randn((9, INPUTS))
    with evaluating(policy):
        assert policy.values(observations).equal(policy.values(observations))
    assert not policy.values(observations).equal(policy.values(observations))


@pytest.mark.parametrize("name", ["Dropping", "Tied", "TiedWeights", "PartlyFrozen"])
def test_a_run_goes_on_from_its_state_bit_for_bit(name: str) -> None:
    config = config_of(name, **{"optimizer.lr": 1e-2})
    whole, resumed = whole_and_resumed(config)
    assert whole.equal(resumed)


# --- what is wrong ---------------------------------------------------------------------------------------------------

SHAPE = "for observations [5, 3] it must give features [5, F]"
MISTAKES = {
    "ActorAndCritic": f"forward gave a tuple, not a tensor; {SHAPE}, to which ppolab adds its heads",
    "Flat": f"forward gave the shape [5]; {SHAPE}",
    "Transposed": f"forward gave the shape [16, 5]; {SHAPE}",
    "Raises": "forward of observations [5, 3] raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (5x2",
    "RaisesItself": "forward of observations [5, 3] raised LookupError: no such lesson (",
    "Doubles": "the parameter block.0.weight is of type torch.float64; it must be torch.float32",
    "GivesDoubles": "forward gave numbers of type torch.float64; they must be torch.float32",
    "NotFinite": "forward gave features that are not finite",
    "MixesRows": "the features of an observation depend on the others in its batch",
    "Remembers": "forward gave other features at a second call with the same observations",
    "BatchNormalized": "forward in training mode changes the buffer norm.running_mean",
    "Detached": "no gradient reaches its parameters",
    "HasNoWayBack": "differentiating forward raised NotImplementedError: You must implement either the backward or vjp",
    "no_module": "no_module(observation_size=3) gave a builtin_function_or_method; it must be a torch.nn.Module",
    "ready": "must be a class or a function that makes a network, not a Residual",
    "the_same": "gave actor and critic networks with the same parameter first.weight",
    "Residul": "the module sample_networks has no Residul; did you mean 'Residual'?",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_contract_is_told_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        new_policy(config_of(name))
    told = str(raised.value)
    assert told.startswith(f"model.network=sample_networks:{name}: {MISTAKES[name]}") and "\n" not in told


def test_the_line_of_the_user_s_own_code_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\([^()]*sample_networks\.py, line \d+\)$"):
        new_policy(config_of("Raises"))  # raised in PyTorch, called from there


def test_what_raises_only_later_names_the_line(tmp_path: Path) -> None:
    small = {"logger": "none", "total_steps": 96, "eval_episodes": 1, "num_envs": 12}
    with pytest.raises(NetworkError) as raised:
        run(config_of("TooManyRows", **small), tmp_path)
    told = str(raised.value)
    assert told.startswith(
        "model.network=sample_networks:TooManyRows: forward of observations [12, 3] raised LookupError: too many rows ("
    )
    assert "sample_networks.py, line " in told and "\n" not in told
    assert isinstance(raised.value.__cause__, LookupError)


def test_an_argument_that_it_does_not_take_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Residual\(observation_size=3, wdth=3\) raised TypeError: .*'wdth'$"):
        trunk_of("Residual", wdth=3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"+model.kwargs": {"width": 3}}, "model.kwargs={'width': 3}: are the arguments of a network of your own"),
        ({"model.network": "a:B", "model.dropout": 0.1}, "model.dropout=0.1: is about the shipped network"),
        ({"model.network": "a:B", "model.critic_sizes": [3]}, "model.critic_sizes=[3]: is about the shipped network"),
        ({"model.network": "a:B", "model.hidden_sizes": [3]}, "model.hidden_sizes=[3]: is about the shipped network"),
        ({"model.network": "a:B", "model.activation": "elu"}, "model.activation=elu: is about the shipped network"),
    ],
)
def test_settings_of_the_shipped_network_do_not_go_with_one(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config(**settings)
    assert str(raised.value).startswith(told)


def test_a_module_that_is_not_here_is_named() -> None:
    config = make_config("env=cartpole", **{"model.network": "not_installed:Net"})
    with pytest.raises(ConfigError, match=r"^model\.network=not_installed:Net: the module 'not_installed' cannot"):
        check_network(config)


def test_parameters_that_nothing_depends_on_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_network(config_of("Residual"))
        assert not caplog.records
        check_network(config_of("Unused", **{"model.trunk": "shared"}))
    (line,) = caplog.records
    assert line.getMessage() == (
        "model.network=sample_networks:Unused: no feature of the actor depends on its parameters forgotten.weight, "
        "forgotten.bias, which therefore stay as they are"
    )


def test_without_one_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppolab.agents.policy.environment_spaces", lambda _: pytest.fail("an environment was made"))
    check_network(make_config())
    assert (
        ActorCritic(RowLayout(INPUTS), action_distribution(BOX), make_config().model, normalize=False).critic
        is not None
    )
