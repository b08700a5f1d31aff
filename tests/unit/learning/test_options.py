"""Options of PPO that are off by default: each against the same mathematics computed otherwise."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import probe_envs  # noqa: F401 -- registers probe/Diary-v0
import pytest
import torch
from gradients import INPUTS, algorithm_config, new_policy
from helpers import make_context, make_env, make_learner, random_rollout
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ppolab.agents.policy import build_policy
from ppolab.config.schema import Config
from ppolab.core.distributions import DiagonalGaussian
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.algorithms.ppo_clip import scheduled_clipping
from ppolab.learning.experience import Experience
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.interface import UpdateStats
from ppolab.learning.native import native_policy
from ppolab.learning.native.library import compiler
from ppolab.learning.objective import actor_critic_objective
from ppolab.learning.rollout import Rollout
from ppolab.learning.value_learner import ValueRegression
from ppolab.training.build import build_module

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
eager_and_native = pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=needs_compiler)], ids=["eager", "native"]
)


def config_of(**settings: Any) -> Config:
    return algorithm_config("ppo_clip", **({"epochs": 4, "optimizer.lr": 1e-2} | settings))


def updated(
    config: Config, policy: ActorCritic, rollout: Rollout, progress: float = 0.0, *, native: bool = False
) -> tuple[Tensor, UpdateStats]:
    """(all parameters after one update of a copy of `policy`, its statistics)."""
    learner, flat = make_learner(copy.deepcopy(policy), config, native=native)
    stats = learner.update(rollout, rollout.rewards, progress)
    return flat.vector.detach().clone(), stats


def setting(**settings: Any) -> tuple[Config, ActorCritic, Rollout]:
    config = config_of(**settings)
    policy = new_policy(config)
    return config, policy, random_rollout(policy, INPUTS, values=False)


# --- a clip range that falls -----------------------------------------------------------------------------------------


@eager_and_native
def test_halfway_the_clip_range_is_half(native: bool) -> None:
    config, policy, rollout = setting(clip=0.2, **{"algorithm.anneal_clip": True})
    constant = config_of(clip=0.1)
    annealed, stats = updated(config, policy, rollout, 0.5, native=native)
    expected, expected_stats = updated(constant, policy, rollout, native=native)
    torch.testing.assert_close(annealed, expected, rtol=0, atol=1e-6)
    assert stats.clip_fraction == pytest.approx(expected_stats.clip_fraction)
    assert stats.clip_fraction > 0
    assert (updated(config, policy, rollout, 0.0, native=native)[0] - annealed).abs().max() > 1e-4


def test_a_traced_graph_follows_the_clip_range() -> None:
    config, policy, rollout = setting(**{"algorithm.anneal_clip": True})
    parts = make_context(policy, config)
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)
    samples = samples._replace(log_probs=samples.log_probs + 0.3)
    gradient = whole_gradient(
        policy, parts.flat, actor_critic_objective(policy.distribution, config, scheduled_clipping(torch.tensor(0.2)))
    )
    vector = parts.flat.vector.detach()
    graph = make_fx(gradient)(vector, *samples, torch.tensor(0.5))
    results = [graph(vector, *samples, torch.tensor(clip)) for clip in (0.5, 0.1)]
    expected = gradient(vector, *samples, torch.tensor(0.1))
    torch.testing.assert_close(results[1], expected)
    assert (results[0][0] - expected[0]).abs().max() > 1e-3


def test_the_module_tells_how_far_the_run_is() -> None:
    config = config_of(total_steps=96, **{"algorithm.anneal_clip": True})
    env = make_env(config)
    module = build_module(config, env, build_policy(config, env))
    module.start()
    told: list[float] = []
    update = module.learner.update
    module.learner.update = lambda *arguments: told.append(arguments[2]) or update(*arguments)  # type: ignore[method-assign]
    before = []
    for iteration in range(2):
        before.append(module.steps / 96)
        module.training_step(None, iteration)
    env.close()
    assert told == before
    assert told[1] > 0


# --- passes of the value function alone ------------------------------------------------------------------------------


def places(policy: ActorCritic, *, critic: bool) -> Tensor:
    """[P] bool: which parameters are the value function's, or are not."""
    parts = [
        torch.full((parameter.numel(),), name.startswith(("critic.", "value_head.")) == critic)
        for name, parameter in policy.named_parameters()
    ]
    return torch.cat(parts)


@eager_and_native
def test_after_the_policy_has_stopped_the_value_function_goes_on_alone(native: bool) -> None:
    stopping, policy, rollout = setting(target_kl=1e-9)
    going_on = config_of(target_kl=1e-9, **{"algorithm.value_epochs": 9})
    stopped, stats = updated(stopping, policy, rollout, native=native)
    gone_on, _ = updated(going_on, policy, rollout, native=native)
    assert stats.epochs == 1
    actor, critic = places(policy, critic=False), places(policy, critic=True)
    assert torch.equal(stopped[actor], gone_on[actor])
    assert (stopped[critic] - gone_on[critic]).abs().max() > 1e-3
    errors = [
        value_error(config, policy, rollout, vector) for config, vector in ((stopping, stopped), (going_on, gone_on))
    ]
    assert errors[1] < 0.9 * errors[0]


@eager_and_native
def test_an_epoch_that_ended_early_is_no_whole_pass(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config, policy, rollout = setting(target_kl=1e-9, minibatch_size=8, **{"algorithm.value_epochs": 2})
    fitted: list[float] = []
    fit = ValueRegression.fit
    monkeypatch.setattr(ValueRegression, "fit", lambda *given: fitted.append(fit(*given)))
    passes = []
    for looked_at in (1, 10_000):  # samples
        monkeypatch.setattr("ppolab.learning.learner.KL_SAMPLES", looked_at)
        fitted.clear()
        passes.append((updated(config, policy, rollout, native=native)[1].epochs, len(fitted)))
    assert passes[0][0] < 1 and passes[0][1] == 2
    assert passes[1] == (1, 1)


def value_error(config: Config, policy: ActorCritic, rollout: Rollout, vector: Tensor) -> float:
    """Mean squared, under the returns that the collecting value function gave."""
    policy = copy.deepcopy(policy)
    torch.nn.utils.vector_to_parameters(vector, policy.parameters())
    returns = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values).returns
    with torch.no_grad():
        return float((policy.values(rollout.observations[:-1][rollout.valid]) - returns).square().mean())


@eager_and_native
def test_they_have_an_optimizer_of_their_own(native: bool) -> None:
    """With one for both, Adam's count of steps would go on without the policy, whose later steps would be too large."""
    _, policy, rollout = setting(target_kl=1e-9)
    kept = []
    for epochs in (None, 9):
        config = config_of(target_kl=1e-9, **{"algorithm.value_epochs": epochs})
        parts = make_context(copy.deepcopy(policy), config, native=native)
        make_algorithm(parts).update(rollout, rollout.rewards)
        state = parts.optimizer.state[parts.flat.vector]
        kept.append([state[name].clone() for name in ("step", "exp_avg", "exp_avg_sq")])
    assert all(torch.equal(*pair) for pair in zip(*kept, strict=True))


def test_it_follows_the_learning_rate() -> None:
    _, policy, rollout = setting(target_kl=1e-9)
    ends = []
    for rate in (1e-2, 0.0):
        config = config_of(target_kl=1e-9, **{"algorithm.value_epochs": 9})
        parts = make_context(copy.deepcopy(policy), config)
        before = parts.flat.vector.detach().clone()
        parts.optimizer.param_groups[0]["lr"] = rate
        make_algorithm(parts).update(rollout, rollout.rewards)
        ends.append(torch.equal(parts.flat.vector.detach(), before))
    assert ends == [False, True]


def test_they_heed_the_value_loss_s_settings() -> None:
    _, policy, rollout = setting(target_kl=1e-9)
    results = []
    for changes in ({}, {"algorithm.value_clip": 0.001}, {"value_coef": 0.0}):
        config = config_of(target_kl=1e-9, **{"algorithm.value_epochs": 9, **changes})
        results.append(updated(config, policy, rollout)[0][places(policy, critic=True)])
    before = torch.cat([parameter.detach().reshape(-1) for parameter in policy.parameters()])
    assert (results[0] - results[1]).abs().max() > 1e-3
    assert torch.equal(results[2], before[places(policy, critic=True)])


def test_as_many_value_epochs_as_epochs_change_nothing() -> None:
    config, policy, rollout = setting()
    same = config_of(**{"algorithm.value_epochs": config.epochs})
    assert torch.equal(updated(config, policy, rollout)[0], updated(same, policy, rollout)[0])


# --- values with a scale of their own --------------------------------------------------------------------------------


def shifted(rollout: Rollout, offset: float, factor: float) -> Rollout:
    return dataclasses.replace(rollout, rewards=offset + factor * rollout.rewards)


def test_the_value_head_keeps_its_values_while_their_scale_moves() -> None:
    config, policy, rollout = setting(normalize_values=True, **{"optimizer.lr": 1e-12})
    learner, _ = make_learner(policy, config)
    before = learner._value_scale.restored(policy.values(rollout.observations))
    learner.update(shifted(rollout, 5.0, 3.0), shifted(rollout, 5.0, 3.0).rewards)
    after = learner._value_scale.restored(policy.values(rollout.observations))
    torch.testing.assert_close(before.float(), after.float(), rtol=1e-4, atol=1e-4)
    assert learner._value_scale.mean > 5


@eager_and_native
def test_the_update_is_that_of_a_value_function_with_standardized_targets(native: bool) -> None:
    """With one epoch and a fresh scale: the targets' own moments, a rescaled head, and the usual update."""
    config, policy, rollout = setting(normalize_values=True, epochs=1)
    result, _ = updated(config, policy, shifted(rollout, 5.0, 3.0), native=native)

    plain = config_of(epochs=1)
    far = shifted(rollout, 5.0, 3.0)
    samples = Experience(far, far.rewards, far.values, plain).samples(far.values)
    mean, deviation = samples.returns.mean(), samples.returns.std(correction=0)
    twin = copy.deepcopy(policy)
    with torch.no_grad():
        twin.value_head.weight.div_(deviation)
        twin.value_head.bias.sub_(mean).div_(deviation)
    learner, flat = make_learner(twin, plain, native=native)
    standardized = samples._replace(
        returns=(samples.returns - mean) / deviation, values=(samples.values - mean) / deviation
    )
    learner.make_pass(learner.drawn_pass(standardized, torch.zeros(len(samples.weights), dtype=torch.int64)))
    torch.testing.assert_close(result, flat.vector.detach(), rtol=0, atol=2e-5)


KEPT: dict[str, dict[str, Any]] = {
    "clip, scale": {"algorithm": "ppo_clip", "normalize_values": True},
    "penalty, scale": {"algorithm": "ppo_penalty", "normalize_values": True},
    "value epochs": {"algorithm": "ppo_clip", "target_kl": 1e-9, "algorithm.value_epochs": 5},
    "annealed, value epochs": {
        "algorithm": "ppo_clip", "target_kl": 1e-9, "algorithm.value_epochs": 5, "algorithm.anneal_clip": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_checkpoint_holds_what_the_next_update_needs(name: str) -> None:
    config = algorithm_config(**(KEPT[name] | {"optimizer.lr": 1e-2}))
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    learner, flat = make_learner(copy.deepcopy(policy), config)
    learner.update(rollout, shifted(rollout, 5.0, 3.0).rewards)
    state, vector = copy.deepcopy(learner.state()), flat.vector.detach().clone()
    results = []
    for loaded in (True, False):
        other, other_flat = make_learner(copy.deepcopy(policy), config)
        other_flat.vector.data.copy_(vector)
        if loaded:
            other.load_state(copy.deepcopy(state))
        other.update(rollout, rollout.rewards)
        results.append(other_flat.vector.detach().clone())
    fresh, fresh_flat = make_learner(copy.deepcopy(policy), config)
    fresh_flat.vector.data.copy_(vector)
    fresh.load_state(copy.deepcopy(state))
    fresh.update(rollout, rollout.rewards)
    assert torch.equal(fresh_flat.vector, results[0])
    assert (results[0] - results[1]).abs().max() > 1e-3


# --- deviations that depend on the state -----------------------------------------------------------------------------


def test_deviations_come_out_of_the_network_and_begin_where_they_should() -> None:
    policy = new_policy(config_of(**{"model.state_dependent_std": True, "model.initial_log_std": -0.75}))
    assert policy.log_std is None
    assert isinstance(policy.distribution, DiagonalGaussian)
    parameters = policy.action_parameters(torch.randn((50, INPUTS)))
    log_std = parameters[:, 2:]
    assert parameters.shape == (50, 4)
    assert log_std.mean().item() == pytest.approx(-0.75, abs=0.2)
    assert log_std.std() > 0.01
    observations = torch.randn((50, INPUTS))
    assert torch.equal(policy(observations)[0], policy.action_parameters(observations))


def test_they_are_left_to_pytorch() -> None:
    config = config_of(**{"model.state_dependent_std": True})
    parts = make_context(new_policy(config), config)
    assert native_policy(parts.policy, parts.flat) is None


def test_the_metric_is_their_mean() -> None:
    config = dataclasses.replace(config_of(**{"model.state_dependent_std": True, "model.initial_log_std": -0.75}))
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, id="Pendulum-v1"))
    env = make_env(config)
    module = build_module(config, env, build_policy(config, env))
    module.start()
    metrics = module.training_step(None, 0)
    env.close()
    assert metrics["policy/std"] == pytest.approx(torch.tensor(-0.75).exp().item(), rel=0.05)
