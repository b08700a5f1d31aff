"""The policy as one module, against the parts that act in training, for every kind of space."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from helpers import make_config

from ppolab.agents.policy_actor import PolicyActor
from ppolab.agents.policy_module import ACTION, OBSERVATION, PolicyModule, as_tensors, port_names
from ppolab.core.moments import Moments
from ppolab.envs.spaces import ActionMapping, action_decoder, of_parts, parts_of, row_encoder, stacked
from ppolab.errors import ExportError
from ppolab.learning.actor_critic import ActorCritic, action_distribution, evaluating

FLOATS = spaces.Box(-2, 2, (3,), np.float32)

OBSERVATIONS = {
    "float32": FLOATS,
    "float64": spaces.Box(-1e6, 1e6, (3,), np.float64),
    "uint8": spaces.Box(0, 255, (4,), np.uint8),
    "uint16": spaces.Box(0, 8, (2,), np.uint16),
    "Discrete": spaces.Discrete(4, start=-1),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -2]),
    "MultiDiscrete of rank 2": spaces.MultiDiscrete([[3, 2], [2, 4]]),
    "MultiBinary": spaces.MultiBinary((2, 2)),
    "Dict": spaces.Dict({"z": FLOATS, "a": spaces.Discrete(3), "deep": spaces.Dict({"b": spaces.MultiBinary(2)})}),
    "image": spaces.Box(0, 255, (7, 6, 3), np.uint8),
    "image of numbers": spaces.Box(-2, 1, (12, 10), np.float32),
    "image and more": spaces.Dict({"eye": spaces.Box(0, 255, (2, 9, 9), np.uint8), "hand": FLOATS}),
    "images alone": spaces.Dict(
        {"eye": spaces.Box(0, 255, (7, 6, 3), np.uint8), "map": spaces.Box(0, 255, (5, 5), np.uint8)}
    ),
    "Tuple": spaces.Tuple((spaces.Discrete(2, start=5), FLOATS)),
}
ACTIONS = {
    "Discrete": spaces.Discrete(3, start=2),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2], start=[5, -1]),
    "MultiBinary": spaces.MultiBinary(3),
    "float32": spaces.Box(np.array([-1, 0, -np.inf], np.float32), np.array([3, np.inf, np.inf], np.float32)),
    "float64 of rank 2": spaces.Box(-3, 5, (2, 2), np.float64),
    "float16": spaces.Box(-60_000, 60_000, (2,), np.float16),
    "of no rank": spaces.Box(-1, 1, (), np.float32),
    "uint8": spaces.Box(3, 9, (2,), np.uint8),
    "uint32": spaces.Box(2**31, 2**32 - 1, (2,), np.uint32),
    "uint64": spaces.Box(3, 2**40, (2,), np.uint64),
    "int64": spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
}
IN_PARTS = {
    "Dict": spaces.Dict(
        [  # in no order of the alphabet
            ("zoom", spaces.Box(0, 10, (), np.float64)),
            ("arm", spaces.Tuple((spaces.Box(-2, 2, (2,)), spaces.Discrete(300, start=5)))),
            ("lamps", spaces.MultiBinary(2)),
            ("buttons", spaces.MultiDiscrete([20, 4], start=[0, -1])),
            ("steps", spaces.Box(-9, 9, (2,), np.int32)),
        ]
    ),
    "Tuple of choices": spaces.Tuple((spaces.Discrete(20), spaces.Discrete(5, start=-3))),
}
MAPPINGS = (ActionMapping(), ActionMapping(rescale=False), ActionMapping(squash=True))


def random_policy(observations: spaces.Space[Any], actions: spaces.Space[Any], **settings: Any) -> ActorCritic:
    """A network whose actions reach beyond the bounds of a Box, with statistics of other observations."""
    torch.manual_seed(0)
    config = make_config(**{"model.hidden_sizes": [8], "model.dropout": 0.5, **settings})
    layout, _ = row_encoder(observations)
    policy = ActorCritic(layout, action_distribution(actions), config.model, normalize=config.normalize_observations)
    with torch.no_grad():
        policy.action_head.weight.mul_(200)
    mean, variance = (
        torch.rand(layout.vector_size, dtype=torch.float64),
        torch.rand(layout.vector_size, dtype=torch.float64) + 0.01,
    )
    policy.observation_scale.merge(Moments(torch.tensor(50.0, dtype=torch.float64), mean, variance))
    return policy


def both(
    policy: ActorCritic, observations: spaces.Space[Any], actions: spaces.Space[Any], mapping: ActionMapping
) -> tuple[Any, Any]:
    """The actions of the parts, and those of the module, for the same 64 observations."""
    observations.seed(0)
    batch = stacked([observations.sample() for _ in range(64)], observations)
    _, encode = row_encoder(observations)
    with evaluating(policy):
        expected = action_decoder(actions, mapping)(PolicyActor(policy)(encode(batch)))
    with torch.no_grad():
        seen = PolicyModule(policy, observations, actions, mapping)(as_tensors(batch))
    return expected, of_parts((part.numpy() for part in parts_of(seen, actions)), actions)


@pytest.mark.parametrize("kind", OBSERVATIONS)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_observation_goes_in_as_the_environment_gives_it(kind: str, normalize: bool) -> None:
    space, actions = OBSERVATIONS[kind], spaces.Box(-np.inf, np.inf, (2,), np.float32)
    policy = random_policy(space, actions, normalize_observations=normalize)
    expected, seen = both(policy, space, actions, ActionMapping())
    assert seen.dtype == expected.dtype
    assert np.array_equal(seen, expected)
    assert len(np.unique(seen)) > 4, "a module that ignores its observations must not pass"


OWN = {
    "network": {"model.network": "sample_image_networks:Parts", "model.hidden_sizes": [64, 64], "model.dropout": 0.0},
    "encoder": {"model.encoder": "sample_image_networks:Convolution"},
    "encoder of a part": {"model.encoder": {"eye": "sample_image_networks:Dropping"}},
}


@pytest.mark.parametrize("kind", OWN)
def test_networks_of_the_user_s_own_go_along(kind: str) -> None:
    space, actions = OBSERVATIONS["image and more"], spaces.Box(-np.inf, np.inf, (2,), np.float32)
    expected, seen = both(random_policy(space, actions, **OWN[kind]), space, actions, ActionMapping())
    assert seen == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert len(np.unique(seen)) > 4


def test_a_policy_that_sees_an_image_alone_can_be_saved() -> None:
    space, actions = OBSERVATIONS["image"], ACTIONS["Discrete"]
    module = PolicyModule(random_policy(space, actions), space, actions, ActionMapping())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own deprecations
        program = torch.export.export(module, (torch.zeros((2, 7, 6, 3), dtype=torch.uint8),))
        torch.export.save(program, io.BytesIO())
    assert program.state_dict["scaling.mean"].shape == (0,)


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("mapping", MAPPINGS, ids=str)
def test_every_action_comes_out_as_the_environment_takes_it(kind: str, mapping: ActionMapping) -> None:
    space = ACTIONS[kind]
    expected, seen = both(random_policy(FLOATS, space), FLOATS, space, mapping)
    assert (seen.dtype, seen.shape) == (expected.dtype, (64, *space.shape))
    assert seen == pytest.approx(expected, rel=1e-6, abs=1e-6)  # tanh of PyTorch and NumPy differ in the last bit
    for action in seen:
        assert space.contains(np.asarray(action) if isinstance(space, spaces.Box) else action)


@pytest.mark.parametrize("kind", IN_PARTS)
@pytest.mark.parametrize("mapping", MAPPINGS, ids=str)
def test_actions_of_several_parts_come_out_as_the_environment_takes_them(kind: str, mapping: ActionMapping) -> None:
    space = IN_PARTS[kind]
    expected, seen = both(random_policy(FLOATS, space), FLOATS, space, mapping)
    assert batch_space(space, 64).contains(seen)
    for one, other in zip(parts_of(expected, space), parts_of(seen, space), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)
        assert len(np.unique(other)) > 1


def test_inputs_are_named_by_their_place() -> None:
    assert port_names(OBSERVATION, FLOATS) == ["observation"]
    assert port_names(OBSERVATION, OBSERVATIONS["Tuple"]) == ["observation.0", "observation.1"]
    assert port_names(ACTION, IN_PARTS["Dict"]) == [
        "action.zoom", "action.arm.0", "action.arm.1", "action.lamps", "action.buttons", "action.steps",
    ]  # fmt: skip
    named = port_names(OBSERVATION, OBSERVATIONS["Dict"])
    assert named == ["observation.a", "observation.deep.b", "observation.z"]


def test_the_module_keeps_a_policy_of_its_own() -> None:
    policy = random_policy(FLOATS, ACTIONS["Discrete"])
    module = PolicyModule(policy, FLOATS, ACTIONS["Discrete"], ActionMapping())
    assert all(parameter.requires_grad for parameter in policy.parameters())
    with torch.no_grad():
        policy.action_head.weight.zero_()
    assert policy.training and not module.training
    assert float(module.policy.action_head.weight.detach().abs().sum()) > 0


def test_numbers_that_pytorch_lacks_are_refused() -> None:
    space = spaces.Box(0, 2**64 - 1, (1,), np.uint64)
    with pytest.raises(ExportError, match=r"below 2\*\*63"):
        PolicyModule(random_policy(FLOATS, space), FLOATS, space, ActionMapping())


def test_actions_need_no_gradient_and_become_arrays_as_they_are() -> None:
    module = PolicyModule(random_policy(FLOATS, ACTIONS["float32"]), FLOATS, ACTIONS["float32"], ActionMapping())
    assert module(torch.zeros(2, 3)).numpy().shape == (2, 3)
