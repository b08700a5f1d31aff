"""Policies with memory in C++ against the PyTorch code that it replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from gymnasium import spaces
from helpers import drawn, make_collector, make_env, make_policy, ppo_objective, tiny_config
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor import Answer
from ppolab.learning.actor_critic import ActorCritic, action_distribution, evaluating
from ppolab.learning.epoch import NativeEpoch, shuffled, stepwise_epoch
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.gradient import gradient_with_memory
from ppolab.learning.native import NativePolicy, NativeUpdate, native_policy
from ppolab.learning.native.library import compiler
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.normalization import FrozenScaling
from ppolab.learning.objective import Samples, value_objective
from ppolab.learning.optimizer import make_optimizer
from ppolab.runtime.process_group import ALONE

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

INPUTS, LENGTH, SEQUENCES = 5, 7, 13
SPACES: dict[str, spaces.Space] = {"Box": spaces.Box(-1, 1, (3,)), "MultiDiscrete": spaces.MultiDiscrete([2, 3])}
NETWORKS: dict[str, dict] = {
    "gru": {"model.memory": "gru"},
    "lstm": {"model.memory": "lstm"},
    "two layers": {"model.memory": "gru", "model.memory_layers": 2},
    "shared": {"model.memory": "lstm", "model.memory_layers": 2, "model.trunk": "shared", "model.activation": "gelu"},
    "bare": {"model.memory": "gru", "model.hidden_sizes": []},
}


def made(network: str = "gru", space: str = "Box", **settings: Any) -> tuple[ActorCritic, FlatParameters, Config]:
    fixed = {"model.memory_size": 16, "model.hidden_sizes": [12], "sequence_length": LENGTH, "minibatch_size": 16}
    config = tiny_config("probe/Diary-v0", **(fixed | NETWORKS[network] | settings))
    torch.manual_seed(0)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(SPACES[space]), config.model, normalize=False)
    flat = flatten_parameters(policy)
    with torch.no_grad():
        flat.vector.add_(0.2 * torch.randn(flat.vector.shape))
    return policy, flat, config


def native_of(policy: ActorCritic, flat: FlatParameters) -> NativePolicy:
    native = native_policy(policy, flat)
    assert native is not None
    return native


def sequences_for(policy: ActorCritic) -> Samples:
    """Sequences of a policy that has moved since: episodes begin anywhere, and a tenth of the rows is no experience."""
    rng = torch.Generator().manual_seed(1)
    rows = LENGTH * SEQUENCES
    observations = torch.randn((rows, INPUTS), generator=rng)
    states = torch.randn((policy.no_memories(1).shape[0], SEQUENCES, 16), generator=rng)
    starts, weights = torch.rand(rows, generator=rng) < 0.2, (torch.rand(rows, generator=rng) < 0.9).float()
    with torch.no_grad():
        parameters, _ = policy(observations, states, starts)
    actions = drawn(policy.distribution, parameters)
    log_probs = policy.distribution.log_prob(parameters, actions) + 0.3 * torch.randn(rows, generator=rng)
    others = torch.randn((3, rows), generator=rng)
    return Samples(observations, actions, parameters, log_probs, *others, weights, states, starts)


@pytest.mark.parametrize("network", NETWORKS)
def test_answers_equal_pytorch_s(network: str) -> None:
    policy, flat, _ = made(network)
    native, samples = native_of(policy, flat), sequences_for(policy)
    inputs = samples.inputs_of_policy()
    with torch.no_grad():
        expected = policy(*inputs)
    torch.testing.assert_close(native(*inputs), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(native.values(*inputs), expected[1], rtol=1e-5, atol=1e-5)
    actor_alone = (inputs[0], inputs[1][: policy.actor_rows], inputs[2])
    torch.testing.assert_close(native.action_parameters(*actor_alone), expected[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(native.values(*inputs), native.values(inputs[0], inputs[1]))  # without the starts


@pytest.mark.parametrize("network", NETWORKS)
def test_single_steps_are_those_of_a_sequence(network: str) -> None:
    """The state that a step leaves is the one that the next step needs, to the last bit."""
    policy, flat, _ = made(network)
    native = native_of(policy, flat)
    raw = np.random.default_rng(0).normal(size=(4, 3, INPUTS))
    state = torch.randn(policy.no_memories(3).shape)
    expected = native(torch.from_numpy(raw).float(), state)
    scaling = FrozenScaling(np.zeros(INPUTS), np.ones(INPUTS), RowLayout(INPUTS))
    native.prepare()
    for t, rows in enumerate(raw):
        answer = Answer(state, torch.empty((3, policy.action_head.out_features)), torch.empty(3))
        actions = torch.empty((3, 3))
        native.act(rows, scaling, None, torch.empty((3, INPUTS)), actions, None, answer)
        assert native.parameters_of(answer.outputs).equal(expected[0][t]) and answer.values is not None
        assert answer.values.equal(expected[1][t]) and actions.equal(answer.outputs)


def gradients(policy: ActorCritic, flat: FlatParameters, config: Config, batch: Samples) -> list[tuple[Tensor, Tensor]]:
    """In C++ and in PyTorch."""
    objective = ppo_objective(policy, config)
    native = NativeUpdate(native_of(policy, flat), objective.native)
    found = [
        each(flat.vector.detach(), *batch) for each in (native.gradient, gradient_with_memory(policy, flat, objective))
    ]
    return [(gradient.clone(), terms.float()) for gradient, terms in found]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("space", SPACES)
def test_gradient_and_terms_equal_pytorch_s(network: str, space: str) -> None:
    policy, flat, config = made(network, space, entropy_coef=0.02, **{"algorithm.value_clip": 0.2})
    ours, theirs = gradients(policy, flat, config, sequences_for(policy))
    for name, part in flat.named(theirs[0]).items():
        assert part.norm() > 1e-4, name
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=3e-6)


def test_rows_that_are_no_experience_have_no_influence() -> None:
    policy, flat, config = made(space="MultiDiscrete")
    batch = sequences_for(policy)
    unlike = batch.weights == 0
    other = batch._replace(returns=batch.returns + 9.0 * unlike, advantages=batch.advantages - 9.0 * unlike)
    first, second = (gradients(policy, flat, config, each)[0] for each in (batch, other))
    assert first[0].equal(second[0]) and first[1].equal(second[1])


@pytest.mark.parametrize("network", ["gru", "shared"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_epoch_equals_pytorch_s(network: str, threads: int) -> None:
    found = []
    for native in (True, False):
        policy, flat, config = made(network, **{"trainer.threads": threads})
        samples, optimizer, objective = (
            sequences_for(policy),
            make_optimizer(config, flat),
            ppo_objective(policy, config),
        )
        if native:
            update = NativeUpdate(native_of(policy, flat), objective.native)
            epoch = NativeEpoch(update, flat.vector, optimizer, config)
        else:
            gradient = gradient_with_memory(policy, flat, objective)
            epoch = stepwise_epoch(gradient, flat.vector, optimizer, config, ALONE)
        owners = torch.where(samples.weights > 0, 0, -1).view(LENGTH, SEQUENCES)
        order = shuffled(owners, 0, config.minibatch_size, torch.Generator().manual_seed(0))
        assert len(order.sizes) > 2
        terms, norms = epoch(samples, order)
        found.append((flat.vector.detach().clone(), terms.float(), norms.float()))
    torch.testing.assert_close(*found, rtol=1e-4, atol=3e-5)


def test_the_value_function_alone_equals_pytorch_s() -> None:
    policy, flat, _ = made()
    batch, objective = sequences_for(policy), value_objective(1.5, 0.2)
    native = NativeUpdate(native_of(policy, flat), objective.native).gradient(flat.vector.detach(), *batch)[0]
    eager = gradient_with_memory(policy, flat, objective)(flat.vector.detach(), *batch)[0]
    torch.testing.assert_close(native, eager, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_rollouts_equal_pytorch_s(trunk: str) -> None:
    """With states that are forgotten at ends of episodes, and kept at the starts of sequences and between rollouts."""
    settings = {"model.memory": "gru", "model.memory_size": 8, "rollout_steps": 12, "sequence_length": 5}
    config = tiny_config("probe/Diary-v0", **settings, **{"model.trunk": trunk})
    found = []
    for use_native in (False, True):
        env = make_env(config)
        policy = make_policy(config, env)
        with torch.no_grad():
            policy.action_head.weight.mul_(100.0)
        native = native_of(policy, flatten_parameters(policy)) if use_native else None
        collector = make_collector(config, env)
        found.append([collector.collect(policy, native) for _ in range(3)])
        env.close()
    assert any(not rollout.valid.all() for rollout in found[0])
    for theirs, ours in zip(*found, strict=True):
        assert ours.actions.equal(theirs.actions)
        assert ours.memories is not None and theirs.memories is not None
        for name in ("parameters", "values", "log_probs"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.memories.states, theirs.memories.states, rtol=1e-4, atol=1e-5)
        assert ours.memories.starts.equal(theirs.memories.starts)


def test_weights_are_read_anew_when_steps_are_prepared() -> None:
    policy, flat, _ = made()
    native, samples = native_of(policy, flat), sequences_for(policy)
    inputs = samples.inputs_of_policy()
    before = native.values(*inputs)
    with torch.no_grad(), evaluating(policy):
        flat.vector.mul_(1.5)
        torch.testing.assert_close(native.values(*inputs), policy.values(*inputs), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(native.values(*inputs), before)


def test_other_sizes_than_multiples_of_eight_are_left_to_pytorch() -> None:
    policy, flat, _ = made(**{"model.memory_size": 12})
    assert unknown_to_native(policy, flat) == "model.memory_size=12 is not a multiple of 8"
