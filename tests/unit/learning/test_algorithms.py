"""Every algorithm's step against the same mathematics computed otherwise, and what it keeps between updates."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from fisher import explicit_fisher
from gradients import BOTH, BOX, DISCRETE, INPUTS, algorithm_config, new_policy
from gymnasium import spaces
from helpers import (
    make_config,
    make_context,
    make_learner,
    random_rollout,
)
from textbook import Textbook, textbook
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ppolab.config.schema import Config
from ppolab.core.losses import adapted_penalty, penalized_surrogate, policy_gradient_surrogate, unclipped_surrogate
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.algorithms.ppo_penalty import HEAVIEST, PenaltyLearner, penalizing
from ppolab.learning.experience import Experience
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.interface import actor_parameters
from ppolab.learning.kl_early_stopping import KL_TOLERANCE, broken_kl
from ppolab.learning.native.library import compiler
from ppolab.learning.objective import actor_critic_objective
from ppolab.learning.policy_step_learner import ActorOnBatch
from ppolab.learning.rollout import Rollout
from ppolab.learning.value_learner import ValueRegression

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
every_space = pytest.mark.parametrize("space", [BOX, DISCRETE, BOTH], ids=["Box", "Discrete", "Dict"])


# --- literal numbers -------------------------------------------------------------------------------------------------


def test_surrogates_by_hand() -> None:
    log_ratio, advantages = torch.tensor([0.0, 0.5]).log1p(), torch.tensor([2.0, -4.0])  # ratios 1 and 1.5
    assert unclipped_surrogate(log_ratio, advantages).tolist() == pytest.approx([2.0, -6.0])
    penalized = penalized_surrogate(log_ratio, advantages, torch.tensor([0.1, 0.3]), torch.tensor(10.0))
    assert penalized.tolist() == pytest.approx([1.0, -9.0])
    assert policy_gradient_surrogate(torch.tensor([-1.0, -0.5]), advantages).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize(
    ("kl", "beta"),
    [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.01, 1.0), (0.0149, 1.0), (0.0151, 2.0), (0.5, 2.0)],
)
def test_the_penalty_halves_and_doubles_beyond_one_and_a_half_times_the_target(kl: float, beta: float) -> None:
    assert adapted_penalty(1.0, kl, 0.01) == beta


# --- gradients -------------------------------------------------------------------------------------------------------


def in_double(rollout: Rollout) -> Rollout:
    fields = {
        name: value.double()
        for name, value in vars(rollout).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return dataclasses.replace(rollout, **fields)


def moved_apart(config: Config, space: spaces.Space) -> tuple[ActorCritic, Rollout]:
    """(a policy in double precision, a rollout of another one): ratios are not 1, and their KL is not 0."""
    policy = new_policy(config, space)
    rollout = in_double(random_rollout(policy, INPUTS, values=False))
    policy = policy.double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, dtype=torch.float64))
    return policy, rollout


def clipped_gain(book: Textbook, clip: float) -> Tensor:
    ratio = (book.log_probs - book.old_log_probs).exp()
    return torch.min(ratio * book.advantages, ratio.clamp(1 - clip, 1 + clip) * book.advantages)


GAINS: dict[str, Callable[[Textbook, Config], Tensor]] = {
    "ppo_clip": lambda book, config: clipped_gain(book, config.clip),
    "ppo_penalty": lambda book, config: (
        (book.log_probs - book.old_log_probs).exp() * book.advantages - config.algorithm["beta"] * book.kl
    ),
    "unclipped": lambda book, _: (book.log_probs - book.old_log_probs).exp() * book.advantages,
    "a2c": lambda book, _: book.log_probs * book.advantages,
}


def by_finite_differences(function: Callable[[Tensor], Tensor], vector: Tensor, width: float = 1e-6) -> Tensor:
    columns = []
    with torch.no_grad():
        for row in torch.eye(len(vector), dtype=torch.float64):
            columns.append((function(vector + width * row) - function(vector - width * row)) / (2 * width))
    return torch.stack(columns)


SGD = {"optimizer": "sgd", "optimizer.lr": 1e-3, "optimizer.momentum": 0.0, "epochs": 1, "minibatch_size": 32}
"""One step of it is minus lr times the gradient."""


@every_space
@pytest.mark.parametrize("name", GAINS)
def test_the_step_of_each_first_order_method_is_along_finite_differences(name: str, space: spaces.Space) -> None:
    own = {"algorithm.beta": 3.0} if name == "ppo_penalty" else {}
    config = algorithm_config(name, entropy_coef=0.1, **SGD, **own)
    policy, rollout = moved_apart(config, space)
    learner, flat = make_learner(policy, config)
    before = flat.vector.detach().clone()

    def loss(vector: Tensor) -> Tensor:
        book = textbook(policy, flat.named(vector), rollout, config)
        gain = GAINS[name](book, config).mean() + config.entropy_coef * book.entropy.mean()
        return config.value_coef * 0.5 * (book.values - book.returns).square().mean() - gain

    expected = by_finite_differences(loss, before)
    stats = learner.update(rollout, rollout.rewards)
    assert (stats.steps, stats.epochs) == (1, 1)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close((before - flat.vector.detach()) / 1e-3, expected, rtol=1e-4, atol=1e-6)


@every_space
def test_the_steps_of_vpg_are_along_finite_differences(space: spaces.Space) -> None:
    config = algorithm_config("vpg", entropy_coef=0.1, gae_lambda=1.0, **SGD, **{"algorithm.value_epochs": 1})
    policy, rollout = moved_apart(config, space)
    learner, flat = make_learner(policy, config)
    before = flat.vector.detach().clone()

    def loss(vector: Tensor) -> Tensor:
        book = textbook(policy, flat.named(vector), rollout, config)
        gain = (book.log_probs * book.advantages).mean() + config.entropy_coef * book.entropy.mean()
        return 0.5 * (book.values - book.returns).square().mean() - gain

    expected = by_finite_differences(loss, before)
    learner.update(rollout, rollout.rewards)
    torch.testing.assert_close((before - flat.vector.detach()) / 1e-3, expected, rtol=1e-4, atol=1e-6)


def reward_to_go(rollout: Rollout, gamma: float) -> Tensor:
    """Forward, episode by episode: the discounted rewards from each step on, and the value where they are cut off."""
    steps, envs = rollout.rewards.shape
    result = torch.zeros((steps, envs), dtype=torch.float64)
    for env in range(envs):
        for start in range(steps):
            discount = 1.0
            for t in range(start, steps):
                result[start, env] += discount * rollout.rewards[t, env].double()
                discount *= gamma
                if rollout.terminated[t, env]:
                    break
                if rollout.truncated[t, env] or t == steps - 1:
                    result[start, env] += discount * rollout.values[t + 1, env].double()
                    break
    return result


def test_with_lambda_1_advantages_are_rewards_to_go_minus_the_baseline() -> None:
    config = algorithm_config("vpg", gae_lambda=1.0)
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS, steps=16, ends=0.2, values=False)
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)
    expected = reward_to_go(rollout, config.gamma)[rollout.valid]
    torch.testing.assert_close(samples.returns.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(samples.advantages.double(), expected - samples.values, rtol=1e-5, atol=1e-5)


# --- natural gradients -----------------------------------------------------------------------------------------------


@every_space
@pytest.mark.parametrize("name", ["npg", "trpo"])
def test_the_natural_step_solves_the_explicit_equations(name: str, space: spaces.Space) -> None:
    own = {"algorithm.cg_steps": 400, "algorithm.damping": 0.05, "algorithm.max_kl": 1e-4}
    config = algorithm_config(name, **own)
    policy = new_policy(config, space).double()
    torch.set_default_dtype(torch.float64)
    try:
        rollout = random_rollout(policy, INPUTS)
    finally:
        torch.set_default_dtype(torch.float32)
    parts = make_context(policy, config)
    actor = actor_parameters(parts)
    before = actor.read()
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)
    fisher = explicit_fisher(parts, ActorOnBatch(parts, actor, samples), before)

    def surrogate(vector: Tensor) -> Tensor:
        book = textbook(policy, {**parts.flat.named(parts.flat.vector), **actor.substitutes(vector)}, rollout, config)
        return ((book.log_probs - book.old_log_probs).exp() * book.advantages).mean()

    gradient = by_finite_differences(surrogate, before)
    damped = fisher + 0.05 * torch.eye(len(fisher), dtype=torch.float64)
    direction = torch.linalg.solve(damped, gradient)
    expected = (2 * 1e-4 / (direction @ damped @ direction)).sqrt() * direction
    stats = make_algorithm(parts).update(rollout, rollout.rewards)
    assert stats.extras.get("policy/step_fraction", 1.0) == 1.0
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(actor.read() - before, expected, rtol=1e-3, atol=1e-6)
    assert stats.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_a_step_that_no_length_makes_acceptable_is_not_made() -> None:
    config = algorithm_config(
        "trpo", **{"algorithm.max_kl": 50.0, "algorithm.line_search_steps": 1, "algorithm.damping": 0}
    )
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    parts = make_context(policy, config)
    before = actor_parameters(parts).read()
    stats = make_algorithm(parts).update(rollout, rollout.rewards)
    assert stats.extras == {"policy/step_fraction": 0.0}
    assert actor_parameters(parts).read().equal(before) and stats.kl == 0.0


@pytest.mark.parametrize("name", ["vpg", "npg", "trpo"])
@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)], ids=["eager", "C++"])
def test_epochs_of_the_value_function_leave_the_policy_alone(name: str, native: bool) -> None:
    decay = {"optimizer": "adamw", "optimizer.weight_decay": 0.1, "optimizer.lr": 0.01}
    config = algorithm_config(name, **decay, entropy_coef=0.0)
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    parts = make_context(policy, config, native=native)
    actor = actor_parameters(parts)
    before, whole = actor.read(), parts.flat.vector.detach().clone()
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)
    function = ValueRegression(parts, config.algorithm["value_epochs"])
    losses = [function.fit(samples, torch.zeros(len(samples.weights), dtype=torch.int64)) for _ in range(30)]
    assert actor.read().equal(before)
    assert not parts.flat.vector.detach().equal(whole)
    assert losses[-1] < 0.7 * losses[0]


@needs_compiler
@pytest.mark.parametrize("name", ["vpg", "npg", "trpo"])
def test_value_epochs_in_cpp_equal_those_in_pytorch(name: str) -> None:
    config = algorithm_config(name, **{"model.hidden_sizes": [16, 16]})
    results = []
    for native in (True, False):
        policy = new_policy(config)
        rollout = random_rollout(policy, INPUTS)
        learner, flat = make_learner(policy, config, native=native)
        stats = learner.update(rollout, rollout.rewards)
        results.append((flat.vector.detach().clone(), torch.tensor([stats.value_loss, stats.policy_loss, stats.kl])))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


# --- the adaptive penalty --------------------------------------------------------------------------------------------


def betas(learner: PenaltyLearner, rollout: Rollout, count: int) -> list[float]:
    return [learner.update(rollout, rollout.rewards).extras["policy/beta"] for _ in range(count)]


@pytest.mark.parametrize(("d_targ", "expected"), [(1e3, [1, 0.5, 0.25]), (1e-9, [1, 2, 4]), (None, [1, 1, 1])])
def test_beta_follows_the_divergence_of_each_update(d_targ: float | None, expected: list[float]) -> None:
    config = algorithm_config("ppo_penalty", target_kl=None, **{"algorithm.d_targ": d_targ})
    policy = new_policy(config)
    learner, _ = make_learner(policy, config)
    assert betas(learner, random_rollout(policy, INPUTS), 3) == expected


def test_beta_stays_where_numbers_do_not_overflow() -> None:
    config = algorithm_config("ppo_penalty", **{"algorithm.beta": 9e9, "algorithm.d_targ": 1e-12})
    policy = new_policy(config)
    learner, _ = make_learner(policy, config)
    assert betas(learner, random_rollout(policy, INPUTS), 4) == [9e9, HEAVIEST, HEAVIEST, HEAVIEST]


def test_beta_doubles_after_steps_so_long_that_they_were_rolled_back() -> None:
    config = algorithm_config("ppo_penalty", target_kl=0.02, **{"optimizer.lr": 1.0})
    policy = new_policy(config)
    learner, flat = make_learner(policy, config)
    rollout = random_rollout(policy, INPUTS)
    before = flat.vector.detach().clone()
    stats = learner.update(rollout, rollout.rewards)
    assert stats.kl > broken_kl(config.target_kl) and flat.vector.equal(before)
    assert betas(learner, rollout, 1) == [2]


def test_a_weight_of_the_penalty_may_be_written_without_a_point() -> None:
    assert type(make_config("algorithm=ppo_penalty", "algorithm.beta=3").algorithm["beta"]) is float


def test_beta_goes_on_from_a_checkpoint() -> None:
    config = algorithm_config("ppo_penalty", target_kl=None, **{"algorithm.d_targ": 1e3})
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    first, _ = make_learner(copy.deepcopy(policy), config)
    betas(first, rollout, 2)
    second, _ = make_learner(copy.deepcopy(policy), config)
    second.load_state(first.state())
    assert betas(second, rollout, 1) == [0.25]


def test_a_traced_graph_follows_beta() -> None:
    """What is compiled takes beta as an input: a number within the graph would stay what it was at first."""
    config = algorithm_config("ppo_penalty")
    policy, rollout = moved_apart(config, BOX)
    parts = make_context(policy, config)
    samples = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)

    surrogate = penalizing(policy.distribution, torch.tensor(1.0))
    objective = actor_critic_objective(policy.distribution, config, surrogate)
    gradient = whole_gradient(policy, parts.flat, objective)
    vector = parts.flat.vector.detach()
    graph = make_fx(gradient)(vector, *samples, torch.tensor(1.0))
    results = [graph(vector, *samples, torch.tensor(beta))[0] for beta in (1.0, 4.0)]
    expected = gradient(vector, *samples, torch.tensor(4.0))[0]
    torch.testing.assert_close(results[1], expected)
    assert (results[0] - expected).abs().max() > 1e-3


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # within PyTorch's compiler
def test_compiled_code_follows_beta() -> None:
    results = []
    for compile in ("false", "true"):
        config = algorithm_config("ppo_penalty", compile=compile, **{"algorithm.d_targ": 1e-9, "optimizer.lr": 1e-2})
        policy = new_policy(config)
        rollout = random_rollout(policy, INPUTS)
        learner, flat = make_learner(policy, config)
        assert betas(learner, rollout, 4) == [1, 2, 4, 8]
        results.append(flat.vector.detach().clone())
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_of_vpg_holds_the_policy_s_own_optimizer() -> None:
    config = algorithm_config("vpg", **{"optimizer.lr": 1e-2})
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    learner, flat = make_learner(policy, config)
    learner.update(rollout, rollout.rewards)
    state, vector = copy.deepcopy(learner.state()), flat.vector.detach().clone()
    value_state = copy.deepcopy(learner._context.optimizer.state_dict())
    shuffle = learner._context.generator.get_state()
    learner.update(rollout, rollout.rewards)

    other, other_flat = make_learner(new_policy(config), config)
    other_flat.vector.data.copy_(vector)
    other._context.optimizer.load_state_dict(value_state)
    other._context.generator.set_state(shuffle)
    other.load_state(state)
    other.update(rollout, rollout.rewards)
    assert other_flat.vector.equal(flat.vector)


# --- epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ppo_clip", "ppo_penalty", "unclipped"])
def test_methods_of_several_epochs_stop_early(name: str) -> None:
    settings = {"epochs": 10, "minibatch_size": 8, "optimizer.lr": 1e-2}
    policy = new_policy(algorithm_config(name))
    rollout = random_rollout(policy, INPUTS)
    free = make_learner(copy.deepcopy(policy), algorithm_config(name, **settings))[0].update(rollout, rollout.rewards)
    assert free.epochs == 10
    stopping = algorithm_config(name, **settings, target_kl=0.02)
    held = make_learner(copy.deepcopy(policy), stopping)[0].update(rollout, rollout.rewards)
    assert 1 <= held.epochs < 10 and held.kl > KL_TOLERANCE * 0.02


@pytest.mark.parametrize("name", ["a2c", "vpg", "npg", "trpo"])
def test_others_make_one_step_of_the_policy(name: str) -> None:
    config = algorithm_config(name)
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    before = copy.deepcopy(policy)
    stats = make_learner(policy, config)[0].update(rollout, rollout.rewards)
    assert (stats.epochs, stats.steps, stats.clip_fraction) == (1, 1, 0.0)
    old, new = (each.action_parameters(rollout.observations[:-1]).detach() for each in (before, policy))
    made = policy.distribution.kl(old, new)[rollout.valid].mean()
    assert stats.kl == pytest.approx(float(made), rel=1e-3, abs=1e-7) and stats.kl > 1e-6
