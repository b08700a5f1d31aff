"""PyTorch's compiler gives the numbers of eager code; compiling takes longer than a unit test may."""

from __future__ import annotations

import logging

import pytest
import torch
from gradients import BOX, DISCRETE, config_with, gradient_of, needs_compiler, new_policy, random_batch
from gymnasium import spaces
from helpers import ppo_objective

from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import compiled_on_first_call, gradient_of_members


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # within PyTorch's compiler
@needs_compiler
@pytest.mark.parametrize("space", [BOX, pytest.param(DISCRETE, marks=pytest.mark.slow)], ids=["Box", "Discrete"])
def test_compiled_and_eager_gradients_agree_to_rounding(space: spaces.Space, caplog: pytest.LogCaptureFixture) -> None:
    config = config_with(entropy_coef=0.01, **{"algorithm.value_clip": 0.2})
    policy = new_policy(config, space)
    flat = flatten_parameters(policy)
    eager = gradient_of(policy, flat, config)
    compiled = compiled_on_first_call(gradient_of(policy, flat, config))
    with caplog.at_level(logging.WARNING):
        for seed in range(5):
            vector = flat.vector.detach() + 0.05 * torch.randn(flat.vector.shape)
            batch = random_batch(policy, 24, seed)
            for ours, theirs in zip(compiled(vector, *batch), eager(vector, *batch), strict=True):
                assert ours.norm() > 0
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert "not compiling" not in caplog.text


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # within PyTorch's compiler
@needs_compiler
def test_the_gradient_of_members_can_be_compiled(caplog: pytest.LogCaptureFixture) -> None:
    config = config_with()
    policies = [new_policy(config, BOX, seed) for seed in range(2)]
    flats = [flatten_parameters(policy) for policy in policies]
    batches = [random_batch(policy, 12, seed) for seed, policy in enumerate(policies)]
    columns = [torch.stack(column) for column in list(zip(*batches, strict=True))[:8]]
    gradient = gradient_of_members(policies[0], flats[0], ppo_objective(policies[0], config), 2)
    vectors = torch.stack([flat.vector.detach() for flat in flats])
    expected = gradient(vectors, *columns, None, None)
    found = compiled_on_first_call(gradient, replayed=False)(vectors, *columns, None, None)
    assert "not compiling" not in caplog.text
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
