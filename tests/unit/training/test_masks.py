"""Trainings with masks: which actions are taken, what is learned from, and what a resumed run goes on from."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from gymnasium import spaces
from helpers import make_collector, make_context, make_env, make_policy, tiny_config

from ppolab.agents.evaluation import evaluate_policy
from ppolab.agents.policy import fresh_policy, policy_from
from ppolab.config.algorithms import algorithm_names
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.config.schema import Config
from ppolab.core.distributions import MultiCategorical
from ppolab.core.masks import masked_logits
from ppolab.envs.action_masks import note_on_masks
from ppolab.envs.factory import environment_spaces
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.algorithms.ppo_clip import clipping
from ppolab.learning.algorithms.ppo_penalty import penalizing
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.learner import Learner
from ppolab.learning.native import NativeUpdate
from ppolab.learning.objective import Samples, actor_critic_objective
from ppolab.learning.rollout import Rollout
from ppolab.records.checkpoint import Checkpoint
from ppolab.training.build import build_module

ALLOWED = "probe/Allowed-v0"


def allowed(place: str = "info", sizes: tuple[int, ...] = (5,), count: int = 2, **settings: Any) -> Config:
    kwargs = {"place": place, "sizes": list(sizes), "count": count}
    return tiny_config(ALLOWED, env_kwargs=kwargs, **({"rollout_steps": 16} | settings))


def trained(config: Config, iterations: int = 2, *, native: bool = False) -> tuple[torch.Tensor, Rollout]:
    """The parameters after some iterations, and the last rollout; the environment raises at a forbidden action."""
    with closing(make_env(config)) as env:
        collector = make_collector(config, env)
        context = make_context(make_policy(config, env), config, native=native)
        algorithm = make_algorithm(context)
        for _ in range(iterations):
            rollout = collector.collect(context.policy, context.native)
            algorithm.update(rollout, rollout.rewards)
        return context.flat.vector.detach().clone(), rollout


@pytest.mark.parametrize("sizes", [(5,), (3, 4)], ids=str)
def test_collecting_in_cpp_and_in_pytorch_is_the_same(sizes: tuple[int, ...]) -> None:
    config = allowed(sizes=sizes)
    rollouts = []
    for native in (False, True):
        with closing(make_env(config)) as env:
            collector = make_collector(config, env)
            context = make_context(make_policy(config, env), config, native=native)
            rollouts.append(collector.collect(context.policy, context.native))
    ours, theirs = rollouts
    assert torch.equal(ours.actions, theirs.actions)
    torch.testing.assert_close(ours.parameters, theirs.parameters)
    torch.testing.assert_close(ours.log_probs, theirs.log_probs)
    masks = ours.parameters > -1e9
    chosen = ours.actions + torch.tensor([0, *sizes[:-1]])
    assert masks.gather(-1, chosen).all()
    assert (masks[ours.valid].sum(-1) == 2 * len(sizes)).all()
    assert ours.log_probs[ours.valid].mean() > -1.1 * len(sizes) * np.log(2)  # of two values, not of all


def test_one_choice_among_combinations_is_learned_from() -> None:
    kwargs = {"place": "observation", "sizes": [3, 4], "combined": True, "lowest": -1}
    config = tiny_config(ALLOWED, env_kwargs=kwargs, rollout_steps=16)
    eager, rollout = trained(config)
    masks = rollout.parameters > -1e9
    assert masks.shape == (16, 4, 12) and rollout.actions.shape == (16, 4, 1) and rollout.actions.max() > 6
    assert (masks.sum(-1)[rollout.valid] == 2).all() and masks.gather(-1, rollout.actions).all()
    native, _ = trained(config, native=True)
    torch.testing.assert_close(native, eager, rtol=0, atol=2e-5)


@pytest.mark.parametrize("place", ["observation", "info"])
def test_masks_beside_pictures(place: str) -> None:
    kwargs = {"place": place, "sizes": [5], "picture": True}
    config = tiny_config(ALLOWED, env_kwargs=kwargs, **{"model.encoder": "small"})
    _, rollout = trained(config)
    masks = rollout.parameters > -1e9
    assert (masks.sum(-1)[rollout.valid] == 2).all() and masks.gather(-1, rollout.actions).all()
    assert rollout.observations.shape == (9, 4, 81)


@pytest.mark.parametrize(("algorithm", "kind"), [("ppo_clip", "gru"), ("trpo", "lstm"), ("ppo_penalty", "lstm")])
def test_masks_beside_memory(algorithm: str, kind: str) -> None:
    memory = {"model.memory": kind, "model.memory_size": 6, "sequence_length": 8}
    config = allowed(algorithm=algorithm, sizes=(3, 4), **memory)
    before = trained_start(config)
    after, rollout = trained(config)
    assert after.isfinite().all() and not torch.equal(after, before)
    masks = rollout.parameters > -1e9
    chosen = rollout.actions + torch.tensor([0, 3])
    assert (masks.sum(-1)[rollout.valid] == 4).all() and masks.gather(-1, chosen).all()
    assert rollout.memories is not None and rollout.memories.states.abs().max() > 0


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_learns_what_cpp_and_pytorch_compute_alike(name: str) -> None:
    config = allowed(algorithm=name)
    before = trained_start(config)
    eager, _ = trained(config)
    native, _ = trained(config, native=True)
    assert eager.isfinite().all() and not torch.equal(eager, before)
    torch.testing.assert_close(native, eager, rtol=0, atol=2e-5)


def trained_start(config: Config) -> torch.Tensor:
    with closing(make_env(config)) as env:
        env.reset()
        return make_context(make_policy(config, env), config).flat.vector.detach().clone()


@pytest.mark.parametrize("surrogate", ["clip", "penalty"])
def test_the_gradient_in_cpp_is_that_of_pytorch(surrogate: str) -> None:
    config = allowed(sizes=(3, 4), entropy_coef=3.0)
    with closing(make_env(config)) as env:
        env.reset()
        policy = make_policy(config, env)
        context = make_context(policy, config, native=True)
    samples = made_up(policy.distribution)
    chosen = clipping(0.2) if surrogate == "clip" else penalizing(policy.distribution, torch.tensor(2.0))
    objective = actor_critic_objective(policy.distribution, config, chosen, masked=True)
    assert context.native is not None and objective.native is not None
    vector = context.flat.vector.detach()
    expected, terms = whole_gradient(policy, context.flat, objective)(vector, *samples, *objective.inputs)
    found, found_terms = NativeUpdate(context.native, objective.native).gradient(vector, *samples)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_terms.float(), terms, rtol=1e-4, atol=1e-5)
    unmasked = actor_critic_objective(policy.distribution, config, clipping(0.2))
    other, _ = whole_gradient(policy, context.flat, unmasked)(vector, *samples)
    assert not torch.allclose(other, expected, atol=1e-3)


def made_up(family: Any, size: int = 32) -> Samples:
    """Samples of a policy whose masks allow two values of each component."""
    rng = torch.Generator().manual_seed(0)
    assert isinstance(family, MultiCategorical)
    masks = torch.cat([torch.rand((size, n), generator=rng).argsort(-1) < 2 for n in family.sizes], dim=-1)
    parameters = masked_logits(torch.randn((size, family.parameter_size), generator=rng), masks)
    actions = family.sample(parameters, family.noise((size,), rng))
    numbers = [torch.randn(size, generator=rng) for _ in range(3)]
    log_probs = family.log_prob(parameters, actions)
    return Samples(
        torch.randn((size, 2), generator=rng), actions, parameters, log_probs, *numbers, torch.ones(size)
    )  # fmt: skip


def test_action_mask_off_trains_as_if_there_were_none() -> None:
    masked, _ = trained(allowed(count=5))
    off, rollout = trained(allowed(count=5, **{"env.action_mask": "off"}))
    assert torch.equal(off, masked)  # where all actions are allowed
    assert (rollout.parameters > -1e9).all()
    observed = (
        trained_start(allowed("observation")),
        trained_start(allowed("observation", **{"env.action_mask": "off"})),
    )
    assert len(observed[1]) - len(observed[0]) == 2 * 16 * 5  # then the mask is an input of actor and critic


def test_two_hundred_actions_of_which_three_are_allowed() -> None:
    config = allowed(sizes=(200,), count=3, num_envs=16, rollout_steps=64, total_steps=4096)
    _, rollout = trained(config, 4, native=True)  # 4,096 steps; the environment raises at a forbidden action
    assert rollout.valid.sum() > 800
    assert (rollout.parameters > -1e9)[rollout.valid].sum(-1).unique().tolist() == [3]
    assert len(rollout.actions.unique()) > 190


def test_masks_take_one_byte_per_action_and_step() -> None:
    config = allowed(sizes=(200,), count=3)
    with closing(make_env(config)) as env:
        masks = make_collector(config, env)._steps.masks
    assert masks is not None and masks.nbytes == (config.rollout_steps + 1) * config.num_envs * 200


def test_the_kl_that_ends_an_update_is_of_the_allowed_actions() -> None:
    """With one action allowed nothing can be learned: no KL, no entropy, no gradient of the policy."""
    config = allowed(count=1, target_kl=1e-6, value_coef=0.0)
    with closing(make_env(config)) as env:
        collector = make_collector(config, env)
        context = make_context(make_policy(config, env), config)
        learner = make_algorithm(context)
        rollout = collector.collect(context.policy)
        before = context.flat.vector.detach().clone()
        stats = learner.update(rollout, rollout.rewards)
    assert isinstance(learner, Learner)
    assert (stats.kl, stats.entropy, stats.clip_fraction, stats.epochs) == (0, 0, 0, config.epochs)
    assert torch.equal(context.flat.vector.detach(), before)
    assert (rollout.log_probs[rollout.valid] == 0).all()


def test_an_evaluation_takes_allowed_actions_only() -> None:
    config = allowed()
    with closing(make_env(config)) as env:
        env.reset()
        policy = make_policy(config, env)
        with torch.no_grad():
            policy.action_head.bias += torch.tensor([0.0, 0, 0, 0, 9.0])  # the unmasked argmax is always 4
        result = evaluate_policy(policy, env)
        native = make_context(policy, config, native=True).native
        env.restart([0, 1, 2, 3])
        assert evaluate_policy(policy, env, native).lengths == result.lengths == [6] * 4


def test_a_collector_goes_on_with_its_masks() -> None:
    config = allowed(num_envs=3, rollout_steps=8, minibatch_size=12)
    with closing(make_env(config)) as env, closing(make_env(config)) as other:
        env.reset()
        policy = make_policy(config, env)
        collector = make_collector(config, env)
        collector.collect(policy)
        state = collector.state()
        assert state is not None and state["masks"].shape == (3, 5)
        resumed = make_collector(config, other)
        resumed.restore(state)
        resumed._noise._generator.set_state(collector._noise._generator.get_state())
        for _ in range(2):
            expected, found = collector.collect(policy), resumed.collect(policy)
            assert torch.equal(found.parameters, expected.parameters) and torch.equal(found.actions, expected.actions)


def test_a_run_says_where_its_mask_is(caplog: pytest.LogCaptureFixture) -> None:
    config = allowed()
    with closing(make_env(config)) as env, caplog.at_level("INFO"):
        module = build_module(config, env, make_policy(config, env))
        assert module.policy.masked and module.state(barrier=False)["masked"] is True
    assert (
        "probe/Allowed-v0: actions that the environment does not allow are never taken, by the mask in "
        "info['action_mask']"
    ) in caplog.text
    assert note_on_masks("mine", "", None, spaces.Discrete(2)) is None


def test_a_run_from_before_masks_goes_on_without() -> None:
    stored = to_yaml(allowed("observation"))
    earlier = stored.replace("  action_mask: auto\n", "")
    assert earlier != stored
    assert from_yaml(earlier).env.action_mask == "auto"  # where it is compared with a run of today
    assert from_yaml(earlier, to_run=True).env.action_mask == "off"
    assert from_yaml(stored, to_run=True).env.action_mask == "auto"


def test_a_policy_from_before_masks_sees_the_mask_as_an_input() -> None:
    config = allowed("observation")
    spaces_of = environment_spaces(config.env)
    widths = []
    for masked in (None, False, True):
        mask = "auto" if masked else "off"
        before = fresh_policy(allowed("observation", **{"env.action_mask": mask}), *spaces_of)
        module = {"policy": before.state_dict()} | ({} if masked is None else {"masked": masked})
        found = policy_from(Checkpoint(module=module, config="", run_id=None, best_return=None), config, *spaces_of)
        assert found.masked == bool(masked)
        widths.append(found.layout.vector_size)
    assert widths == [7, 7, 2]
