"""One description of a surrogate: both paths compute it, and nothing else says what it is."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import BOX, DISCRETE, INPUTS, algorithm_config, new_policy
from helpers import make_context, make_learner, random_rollout
from torch import Tensor

from ppolab.config.algorithms import algorithm_names
from ppolab.config.schema import Config, known_keys
from ppolab.learning import Learner, Samples, Surrogate
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.experience import Experience
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.interface import LearnerContext
from ppolab.learning.native import NativeUpdate
from ppolab.learning.native.library import compiler
from ppolab.learning.objective import LossTerms, Objective, actor_critic_objective, value_objective
from ppolab.learning.policy_step_learner import SeparateLearner

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"algorithm": name} for name in algorithm_names()},
    "annealed": {"algorithm": "ppo_clip", "algorithm.anneal_clip": True},
    "value clip": {"algorithm": "ppo_clip", "algorithm.value_clip": 0.1},
}
WITHOUT_NATIVE_FORM = {"a2c"}


def variant(name: str, **settings: Any) -> Config:
    return algorithm_config(**(VARIANTS[name] | {"entropy_coef": 0.02} | settings))


def objective_of(context: LearnerContext) -> Objective:
    """What the algorithm differentiates by minibatches: policy and value together, or the value function alone."""
    learner = make_algorithm(context)
    if isinstance(learner, SeparateLearner):
        return value_objective(1.0, None)
    assert isinstance(learner, Learner)
    return actor_critic_objective(context.policy.distribution, context.config, learner.surrogate)


def moved_samples(context: LearnerContext) -> Samples:
    """A batch of a policy that has moved since, so that ratios are not 1 and the KL is not 0."""
    rollout = random_rollout(context.policy, INPUTS, steps=32, values=False)
    with torch.no_grad():
        noise = torch.randn(context.flat.vector.shape, generator=torch.Generator().manual_seed(1))
        context.flat.vector.add_(0.05 * noise)
    return Experience(rollout, rollout.rewards, rollout.values, context.config).samples(rollout.values)


@needs_compiler
@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["Box", "Discrete"])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in WITHOUT_NATIVE_FORM])
def test_both_paths_give_the_same_gradient_and_terms(name: str, space: Any) -> None:
    config = variant(name)
    context = make_context(new_policy(config, space), config, native=True)
    samples, objective = moved_samples(context), objective_of(context)
    assert context.native is not None and objective.native is not None
    vector = context.flat.vector.detach()
    ours = NativeUpdate(context.native, objective.native).gradient(vector, *samples)
    theirs = whole_gradient(context.policy, context.flat, objective)(vector, *samples, *objective.inputs)
    assert theirs[0].norm() > 0.01
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=3e-6)
    terms, expected = (LossTerms(*result[1].tolist()) for result in (ours, theirs))
    compared = LossTerms._fields if not objective.native.value_only else ("value",)
    for term in compared:
        assert getattr(terms, term) == pytest.approx(getattr(expected, term), rel=1e-4, abs=3e-6), term


def test_only_these_algorithms_are_left_to_pytorch() -> None:
    found = set()
    for name in algorithm_names():
        config = variant(name)
        found |= {name} if objective_of(make_context(new_policy(config), config)).native is None else set()
    assert found == WITHOUT_NATIVE_FORM


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)], ids=["PyTorch", "C++"])
@pytest.mark.parametrize("name", algorithm_names())
def test_what_the_file_says_of_an_algorithm_changes_nothing_that_it_computes(name: str, native: bool) -> None:
    """`ignores` tells users which settings matter; the code alone says what is computed."""
    plain = variant(name, normalize_values=name in ("ppo_clip", "unclipped"))
    policy = new_policy(plain)
    rollout = random_rollout(policy, INPUTS, values=False)
    results = []
    for ignored in (plain.algorithm["ignores"], [], list(known_keys(Config))):
        config = dataclasses.replace(plain, algorithm={**plain.algorithm, "ignores": ignored})
        learner, flat = make_learner(copy.deepcopy(policy), config, native=native)
        for _ in range(2):
            stats = learner.update(rollout, rollout.rewards)
        results.append((flat.vector.detach().clone(), stats))
    for vector, stats in results[1:]:
        assert vector.equal(results[0][0]) and stats == results[0][1]


# --- surrogates of one's own -----------------------------------------------------------------------------------------


def plain_gain(_parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
    return log_ratio.exp() * batch.advantages


def updated(surrogate: Surrogate | Callable[..., Tensor], *, native: bool) -> tuple[Tensor, float]:
    config = algorithm_config("unclipped", clip=0.01, **{"optimizer.lr": 1e-2})
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    context = make_context(policy, config, native=native)
    stats = Learner(context, surrogate).update(rollout, rollout.rewards)
    return context.flat.vector.detach().clone(), stats.clip_fraction


@needs_compiler
@pytest.mark.parametrize("given", [plain_gain, Surrogate(plain_gain)], ids=["function", "Surrogate"])
def test_one_without_a_native_form_takes_pytorch_even_where_there_is_a_native_policy(given: Any) -> None:
    calls = []

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return plain_gain(*arguments)

    own = counted if callable(given) else Surrogate(counted)
    vector, clip_fraction = updated(own, native=True)
    assert calls and clip_fraction == 0
    torch.testing.assert_close(vector, updated(given, native=False)[0], rtol=0, atol=1e-5)  # C++ recomputes the values


def test_the_clip_range_of_a_surrogate_is_what_the_clip_fraction_is_measured_with() -> None:
    (_, wide), (_, narrow) = (updated(Surrogate(plain_gain, clip_range=clip), native=False) for clip in (0.5, 0.001))
    assert narrow > 0.5 > wide


def test_a_clip_range_that_changes_must_be_an_input() -> None:
    clip = torch.tensor(0.2, dtype=torch.float64)
    with pytest.raises(ValueError, match="must be one of the inputs"):
        Surrogate(plain_gain, clip_range=clip)
    assert Surrogate(plain_gain, (clip,), clip_range=clip).clip_range is clip
