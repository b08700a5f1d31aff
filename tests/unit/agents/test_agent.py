"""An agent acts as evaluations do, in the terms of its environment, and leaves everything else alone."""

from __future__ import annotations

import pickle
import random
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from made_agents import made_agent, some

from ppolab.agents.evaluation import evaluate_policy
from ppolab.agents.policy_actor import PolicyActor
from ppolab.envs.spaces import row_encoder, stacked
from ppolab.errors import ConfigError
from ppolab.learning.native.library import compiler

BOX = spaces.Box(-np.inf, np.inf, (4,), np.float32)
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Box": spaces.Box(np.array([-2.0, -0.1], np.float32), np.array([2.0, 0.3], np.float32)),
    "wide Box": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
    "Box without a shape": spaces.Box(-1.0, 1.0, (), np.float32),
    "whole Box": spaces.Box(0, 9, (2,), np.int32),
    "Discrete": spaces.Discrete(5, start=3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 5, 3]),
    "MultiBinary": spaces.MultiBinary(4),
}
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "Box": BOX,
    "Discrete": spaces.Discrete(7),
    "Dict": spaces.Dict({"place": spaces.Discrete(4), "speed": spaces.Box(-1, 1, (2,))}),
    "Tuple": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3]))),
}
IMAGES = {
    "image": spaces.Box(0, 255, (9, 9, 2), np.uint8),
    "image and more": spaces.Dict({"eye": spaces.Box(0, 255, (2, 9, 9), np.uint8), "hand": BOX}),
    "images alone": spaces.Tuple((spaces.Box(0, 255, (2, 9, 9), np.uint8), spaces.Box(0, 255, (5, 5), np.uint8))),
}
PATHS = ["false", pytest.param("auto", marks=pytest.mark.skipif(compiler() is None, reason="no C++ compiler"))]


@pytest.mark.parametrize("compiled", PATHS)
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_actions_lie_in_the_space_one_by_one_and_in_a_batch(
    space: spaces.Space[Any], deterministic: bool, compiled: str
) -> None:
    agent = made_agent(BOX, space, compile=compiled)
    observations = some(BOX, 20)
    for observation in observations:
        action = agent.act(observation, deterministic)
        assert space.contains(action), action
        assert action.dtype == space.dtype
    batch = agent.act(np.stack(observations), deterministic)
    assert batch.shape == (20, *space.shape)
    assert all(space.contains(batch[index, ...]) for index in range(20))
    assert len(np.unique(batch, axis=0)) > 1
    assert agent.act(np.zeros((0, 4)), deterministic).shape == (0, *space.shape)


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_action_of_several_parts_has_the_structure_of_its_space(deterministic: bool) -> None:
    space = spaces.Dict(
        arm=spaces.Tuple((spaces.Box(-2, 2, (2,)), spaces.Discrete(3, start=5))),
        lamps=spaces.MultiBinary(2),
        zoom=spaces.Box(0, 10, (), np.float64),
    )
    agent, other = (made_agent(BOX, space) for _ in range(2))
    observations = some(BOX, 20)
    batch = agent.act(np.stack(observations), deterministic)
    assert batch_space(space, 20).contains(batch)
    assert len(np.unique(batch["zoom"])) > 1
    for index, observation in enumerate(observations):
        action = other.act(observation, deterministic)
        assert space.contains(action), action
        assert isinstance(action["arm"][1], np.int64)
        if deterministic:
            assert action["arm"][1] == batch["arm"][1][index]
            assert action["zoom"] == pytest.approx(batch["zoom"][index], abs=1e-5)


def test_a_discrete_action_is_a_number() -> None:
    action = made_agent(BOX, spaces.Discrete(5, start=3)).act(np.zeros(4))
    assert isinstance(action, np.int64)
    assert ["a", "b", "c", "d", "e"][action - 3] in "abcde"


@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_batch_is_answered_like_its_observations_one_by_one(space: spaces.Space[Any]) -> None:
    agent = made_agent(space, spaces.Box(-1, 1, (2,)))
    observations = some(space, 30)
    batch = concatenate(space, observations, create_empty_array(space, 30))
    np.testing.assert_array_equal(agent.act(batch), [agent.act(each) for each in observations])
    assert len(np.unique(agent.act(batch), axis=0)) > 1


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_native_code_takes_the_same_actions(space: spaces.Space[Any]) -> None:
    """Equal but for the rounding of float32; the nearest two whole numbers may be chosen otherwise."""
    observations = np.stack(some(BOX, 200))
    plain, fast = (made_agent(BOX, space, compile=value).act(observations) for value in ("false", "auto"))
    if np.issubdtype(space.dtype, np.floating):
        np.testing.assert_allclose(plain, fast, rtol=1e-5, atol=1e-6)
    else:
        assert np.mean(plain == fast) > 0.99


@pytest.mark.parametrize(
    ("observed", "name"),
    [
        *(("Box", name) for name in ("Box", "Discrete", "MultiDiscrete", "MultiBinary")),
        *((kind, name) for kind in IMAGES for name in ("Box", "Discrete")),
    ],
)
def test_an_agent_acts_as_evaluations_of_a_run_do_bit_for_bit(observed: str, name: str) -> None:
    space = (OBSERVATIONS | IMAGES)[observed]
    agent = made_agent(space, ACTIONS[name])
    batch = stacked(some(space, 100), space)
    rows = row_encoder(space)[1](batch)
    native = agent.native
    expected = agent._decode(PolicyActor(agent.trained.policy, native)(rows))
    np.testing.assert_array_equal(agent.act(batch), expected)
    assert len(np.unique(expected, axis=0)) > 1
    if native is not None:  # what evaluations computed before there was `act` without noise
        scaled = torch.from_numpy(agent.trained.policy.observation_scale.frozen()(rows))
        modes = agent.trained.policy.distribution.mode(native.action_parameters(scaled)).numpy()
        np.testing.assert_array_equal(agent.act(batch), agent._decode(modes))


def test_sampling_has_the_agents_own_generator() -> None:
    space, observation = spaces.Box(-10, 10, (2,)), np.zeros(4)
    first, again, other = (made_agent(BOX, space, seed=seed) for seed in (7, 7, 8))
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    drawn = [first.act(observation, deterministic=False) for _ in range(3)]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert np.array_equal(drawn, [again.act(observation, deterministic=False) for _ in range(3)])
    assert not np.array_equal(drawn, [other.act(observation, deterministic=False) for _ in range(3)])
    assert len(np.unique(drawn, axis=0)) == 3
    assert np.array_equal(first.act(observation), again.act(observation))


@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("compiled", PATHS)
def test_a_pickled_agent_goes_on_as_it_would_have_here(memory: str, compiled: str) -> None:
    space = spaces.Box(-10, 10, (2,))
    agent = made_agent(BOX, space, compile=compiled, **{"model.memory": memory})
    first, second = some(BOX, 2)
    agent.act(first, deterministic=False)
    pickled = pickle.loads(pickle.dumps(agent))
    expected = [agent.act(second, deterministic=False), agent.act(first)]
    np.testing.assert_array_equal([pickled.act(second, deterministic=False), pickled.act(first)], expected)
    fresh = made_agent(BOX, space, compile=compiled, **{"model.memory": memory})
    assert not np.array_equal(fresh.act(second, deterministic=False), expected[0])
    assert (pickled.native is None) == (agent.native is None)


def test_an_agent_serves_several_threads() -> None:
    agent = made_agent(BOX, spaces.Box(-1, 1, (2,)))
    observations = np.stack(some(BOX, 300))
    expected, wrong = agent.act(observations), []

    def work() -> None:
        for _ in range(100):
            if not np.array_equal(agent.act(observations), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("given", ["state", "action_mask"])
def test_memory_and_masks_are_refused_in_one_line(given: str) -> None:
    agent = made_agent(BOX, spaces.Discrete(2))
    with pytest.raises(ConfigError, match=f"^{given}: .*; leave {given} out$"):
        agent.act(np.zeros(4), **{given: np.ones(2)})


def test_an_evaluation_is_that_of_evaluate_policy_and_repeatable() -> None:
    with gymnasium.make("CartPole-v1") as env:
        agent = made_agent(env.observation_space, env.action_space)
    state = torch.get_rng_state()
    result = agent.evaluate(episodes=5, seed=3)
    assert len(result.returns) == len(result.lengths) == 5
    assert result == agent.evaluate(episodes=5, seed=3)
    assert result != agent.evaluate(episodes=5, seed=4)
    drawn = agent.evaluate(episodes=5, seed=3, deterministic=False)
    assert drawn == agent.evaluate(episodes=5, seed=3, deterministic=False) != result
    assert torch.equal(torch.get_rng_state(), state)
    with gymnasium.make("CartPole-v1") as env:  # CartPole pays 1 a step
        assert result.returns == [float(length) for length in result.lengths]


def test_an_evaluation_plays_what_a_run_plays() -> None:
    agent = made_agent(spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-2.0, 2.0, (1,)), **{"env.id": "Pendulum-v1"})
    from ppolab.envs.factory import EVALUATION, environment_seeds, make_vector_env

    env = make_vector_env(agent.config.env, environment_seeds(0, 0, 2, EVALUATION), "gymnasium")
    assert agent.evaluate(episodes=2) == evaluate_policy(agent.trained.policy, env, agent._native)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"episodes": 0}, "episodes=0: must be a whole number >= 1"),
        ({"episodes": 2.5}, "episodes=2.5: must be a whole number >= 1"),
        ({"seed": -1}, "seed=-1: must be a whole number >= 0"),
    ],
)
def test_an_evaluation_that_cannot_be_meant_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}$"):
        made_agent(BOX, spaces.Discrete(2)).evaluate(**arguments)


def test_an_agent_makes_the_environment_of_its_run() -> None:
    agent = made_agent(BOX, spaces.Discrete(2), **{"+env.kwargs": {"max_episode_steps": 7}})
    with agent.make_env(render_mode="rgb_array") as env:
        env.reset(seed=0)
        assert env.render().shape == (400, 600, 3)
        assert env.spec.max_episode_steps == 7
    with agent.make_env() as env:
        assert env.render_mode is None


def test_an_unknown_render_mode_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as raised:
        made_agent(BOX, spaces.Discrete(2)).make_env(render_mode="rgb")
    assert str(raised.value) == (
        "render_mode=rgb: CartPole-v1 has no such mode; it has human, rgb_array, rgb_array_list"
    )


def test_an_unknown_format_of_a_file_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format=pickle: must be one of onnx, torch_export"):
        made_agent(BOX, spaces.Discrete(2)).export(tmp_path / "policy", format="pickle")


def test_an_agent_says_what_it_is() -> None:
    agent = made_agent(BOX, spaces.Discrete(2), compile="false")
    assert repr(agent) == "<Agent CartPole-v1, 1,234 steps, nowhere/checkpoints/best.ckpt, computed in PyTorch>"
    assert (agent.steps, agent.run_id, str(agent.folder)) == (1234, None, "nowhere")
    assert agent.config.env.id == "CartPole-v1"
    assert (agent.observation_space, agent.action_space) == (BOX, spaces.Discrete(2))
