"""Agents of policies with masks: where they find the mask, and what they answer to one that is none."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import probe_envs
import pytest
import torch
from gymnasium import spaces
from made_agents import made_agent, some

from ppolab.agents.export import metadata
from ppolab.agents.policy_module import PolicyModule, as_tensors
from ppolab.envs.factory import action_mapping
from ppolab.envs.spaces import stacked
from ppolab.errors import ConfigError

SEEN, FIVE = probe_envs.box(2), spaces.Discrete(5)
OBSERVED = spaces.Dict(action_mask=spaces.MultiBinary(5), seen=SEEN)
SEEN_ALONE = spaces.Dict(seen=SEEN)
TWO = spaces.MultiDiscrete([3, 4], start=[10, 0])
ONLY_3 = np.array([0, 0, 0, 1, 0])
compiled = pytest.mark.parametrize("compile_", ["auto", "false"])


@compiled
def test_an_agent_takes_the_mask_that_is_given(compile_: str) -> None:
    agent = made_agent(SEEN, FIVE, masked=True, compile=compile_)
    for row in range(5):
        mask = np.arange(5) == row
        assert agent.act(np.zeros(2), action_mask=mask) == row
        assert agent.act(np.zeros(2), deterministic=False, action_mask=mask.astype(np.int8)) == row
    masks = np.eye(5)[[4, 0, 2]]
    assert agent.act(np.zeros((3, 2)), action_mask=masks).tolist() == [4, 0, 2]


@compiled
def test_an_agent_takes_the_mask_of_the_observation(compile_: str) -> None:
    agent = made_agent(OBSERVED, FIVE, masked=True, compile=compile_)
    assert agent.trained.policy.layout.vector_size == 2
    assert agent.act({"seen": np.zeros(2), "action_mask": ONLY_3}) == 3
    batch = {"seen": np.zeros((2, 2)), "action_mask": np.eye(5)[[1, 4]]}
    assert agent.act(batch).tolist() == [1, 4]


def test_all_actions_allowed_is_as_without_a_mask() -> None:
    masked, plain = made_agent(SEEN, FIVE, masked=True), made_agent(SEEN, FIVE)
    observations = np.stack(some(SEEN, 50))
    expected = plain.act(observations)
    assert (masked.act(observations, action_mask=np.ones((50, 5))) == expected).all()
    assert len(set(expected.tolist())) > 1


def test_masks_of_several_components() -> None:
    agent = made_agent(SEEN, TWO, masked=True)
    parts = (np.array([0, 0, 1]), np.array([0, 1, 0, 0]))
    assert agent.act(np.zeros(2), action_mask=parts).tolist() == [12, 1]
    assert agent.act(np.zeros(2), action_mask=np.concatenate(parts)).tolist() == [12, 1]


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (None, "action_mask: this policy was trained with masks; give that of the environment's info or of its method"
               " action_masks()"),
        (np.ones(4), "action_mask: is 4 values of type float64; give 5 numbers, of which those of Discrete(5) that are"
                     " allowed are 1"),
        (np.zeros(5), "action_mask: row 0 allows no action; there is nothing to choose"),
    ],
)  # fmt: skip
def test_a_mask_that_is_missing_or_is_none_is_told(mask: Any, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made_agent(SEEN, FIVE, masked=True).act(np.zeros(2), action_mask=mask)
    assert str(raised.value) == told


@pytest.mark.parametrize("masks", [[[1, 1, 1, 1, 1], [1]], (np.ones((2, 3)), np.ones((2, 2)))])
def test_masks_of_a_batch_that_are_no_array_are_told(masks: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        made_agent(SEEN, FIVE, masked=True).act(np.zeros((2, 2)), action_mask=masks)
    assert str(raised.value) == "action_mask: is no array of numbers; give 2 x 5, a row for each observation"


def test_a_mask_in_the_observation_is_given_once_and_must_be_there() -> None:
    agent = made_agent(OBSERVED, FIVE, masked=True)
    with pytest.raises(ConfigError, match=r"^action_mask: is in the observation already"):
        agent.act({"seen": np.zeros(2), "action_mask": ONLY_3}, action_mask=ONLY_3)
    with pytest.raises(ConfigError, match=r"^observation: lacks the key 'action_mask', the mask of the allowed"):
        agent.act({"seen": np.zeros(2)})


@pytest.mark.parametrize("place", ["observation", "info", "method"])
def test_an_evaluation_and_an_episode_of_ones_own_take_allowed_actions(place: str) -> None:
    """The environment raises where another one is taken."""
    kwargs = {"place": place, "sizes": [5]}
    task = {"env.id": "probe/Allowed-v0", "+env.kwargs": kwargs}
    agent = made_agent(OBSERVED if place == "observation" else SEEN, FIVE, masked=True, **task)
    result = agent.evaluate(episodes=3)
    assert result.lengths == [6, 6, 6] and len(set(result.returns)) > 1
    assert agent.evaluate(episodes=3, deterministic=False).returns != result.returns
    with agent.make_env() as env:
        observation, info = env.reset(seed=0)
        for _ in range(6):
            mask = {
                "observation": None, "info": info.get("action_mask"),
                "method": place == "method" and env.get_wrapper_attr("action_masks")(),
            }[place]  # fmt: skip
            observation, _, terminated, _, info = env.step(agent.act(observation, action_mask=mask))
    assert terminated


def test_a_mask_over_combinations_is_one_of_combinations() -> None:
    kwargs = {"place": "observation", "sizes": [3, 4], "combined": True, "lowest": -1}
    space = spaces.Dict(action_mask=spaces.MultiBinary((3, 4)), seen=SEEN)
    actions = spaces.Box(np.array([-1, -1], np.int16), np.array([1, 2], np.int16), dtype=np.int16)
    agent = made_agent(space, actions, masked=True, **{"env.id": "probe/Allowed-v0", "+env.kwargs": kwargs})
    module = PolicyModule(
        agent.trained.policy, SEEN_ALONE, agent.trained.policy_space, action_mapping(agent.config.env)
    )
    for row in range(12):
        mask = np.arange(12).reshape(3, 4) == row
        for deterministic in (True, False):
            action = agent.act({"seen": np.zeros(2), "action_mask": mask}, deterministic)
            assert action.dtype == np.int16 and (action + 1).tolist() == list(np.unravel_index(row, (3, 4)))
        exported = module({"seen": torch.zeros(1, 2)}, torch.from_numpy(mask.reshape(1, 12)))
        assert exported.dtype == torch.int16 and exported[0].tolist() == action.tolist()
    assert agent.evaluate(episodes=3, deterministic=False).lengths == [6, 6, 6]  # the environment raises else
    with pytest.raises(
        ConfigError, match=r"is 6 values of type int64; give 12 numbers, of which those of combinations of"
    ):
        agent.act({"seen": np.zeros(2), "action_mask": np.ones(6, np.int64)})


def test_a_policy_without_masks_is_evaluated_without() -> None:
    agent = made_agent(SEEN, FIVE, **{"env.id": "probe/Allowed-v0", "+env.kwargs": {"sizes": [5], "count": 5}})
    with gymnasium.make("probe/Allowed-v0", sizes=[5], count=5):
        assert agent.evaluate(episodes=2).lengths == [6, 6]
    assert agent.trained.env.action_mask == "off" and agent.config.env.action_mask == "auto"


@pytest.mark.parametrize("observations", [SEEN, OBSERVED], ids=["given", "observed"])
@pytest.mark.parametrize("actions", [FIVE, spaces.MultiDiscrete([3, 2])], ids=str)
def test_a_module_to_export_answers_as_the_agent(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    agent = made_agent(observations, actions, masked=True)
    trained = agent.trained
    module = PolicyModule(trained.policy, trained.seen_space, trained.policy_space, action_mapping(agent.config.env))
    draw = np.random.default_rng(0)
    masks = np.concatenate([draw.permuted(np.arange(n) < 1 + n // 2, axis=-1)[None].repeat(40, 0) for n in
                            (trained.policy.distribution.sizes)], axis=1)  # fmt: skip
    batch = stacked(some(SEEN, 40), SEEN)
    answer = module({"seen": as_tensors(batch)} if observations is OBSERVED else as_tensors(batch),
                    torch.from_numpy(masks))  # fmt: skip
    if observations is OBSERVED:
        expected = agent.act({"seen": batch, "action_mask": masks})
    else:
        expected = agent.act(batch, action_mask=masks)
    assert answer.numpy().tolist() == expected.tolist()
    chosen = answer.reshape(40, -1).numpy() + np.cumsum([0, *trained.policy.distribution.sizes[:-1]])
    assert np.take_along_axis(masks, chosen, axis=1).all()
    assert metadata(trained)["action_mask"] == "5"
