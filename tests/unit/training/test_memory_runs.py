"""Policies with memory in whole iterations: every algorithm, resuming, evaluations, the agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from gradients import needs_compiler
from gymnasium import spaces
from helpers import make_config, make_env, make_policy, tiny_config
from made_agents import made_agent, some
from modules import trained_module, whole_and_resumed
from small_runs import small_config

from ppolab.agents.evaluation import play_episodes
from ppolab.agents.policy_actor import PolicyActor
from ppolab.config.algorithms import algorithm_names
from ppolab.config.schema import Config
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import evaluating

BOX = spaces.Box(-np.inf, np.inf, (4,), np.float32)
MEMORY: dict[str, Any] = {"model.memory": "gru", "model.memory_size": 6, "sequence_length": 4}


def with_memory(**settings: Any) -> Config:
    return small_config(**(MEMORY | {"epochs": 2} | settings))


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_trains_the_memory_of_policy_and_value_function(name: str) -> None:
    start, end = (trained_module(with_memory(algorithm=name), count).policy for count in (0, 1))
    before = dict(start.named_parameters())
    same = [key for key, parameter in end.named_parameters() if parameter.equal(before[key])]
    assert same == []


@pytest.mark.parametrize("name", algorithm_names())
def test_a_run_goes_on_in_the_middle_of_an_episode_bit_for_bit(name: str) -> None:
    whole, resumed = whole_and_resumed(with_memory(algorithm=name))
    assert whole.equal(resumed)


CASES: dict[str, dict[str, Any]] = {
    "lstm": {"model.memory": "lstm", "model.memory_layers": 2},
    "shared": {"model.trunk": "shared"},
    "images and numbers": {
        "env.id": "probe/Dot-v0", "+env.kwargs": {"mixed": True}, "model.hidden_sizes": [8], "rollout_steps": 8,
        "epochs": 1,
    },
    "choices and numbers": {"env.id": "probe/Orders-v0"},
    "values of the run's scale": {"normalize_values": True, "normalize_advantages": True},
    "a sequence that does not divide": {"sequence_length": 7},
    "staggered": {"env.stagger": True, "+env.kwargs": {"max_episode_steps": 40}},
    "own network": {"model.network": "sample_networks:Residual", "model.hidden_sizes": [64, 64]},
    "EnvPool": {"env.backend": "envpool"},
    "C++": {"compile": "auto", "model.memory_size": 8},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_every_kind_goes_on_bit_for_bit(case: str) -> None:
    whole, resumed = whole_and_resumed(with_memory(**CASES[case]))
    assert whole.equal(resumed)
    assert whole.isfinite().all()


@needs_compiler
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_steps_in_native_code_train_the_same_policy(kind: str) -> None:
    settings = {"model.memory": kind, "model.memory_size": 8, "optimizer.lr": 1e-3}
    ours, theirs = (trained_module(with_memory(compile=each, **settings), 1) for each in ("auto", "false"))
    assert ours.policy.actor_memory is not None and ours.policy.actor_memory.over_steps is not None
    assert theirs.policy.actor_memory is not None and theirs.policy.actor_memory.over_steps is None
    found, expected = (each.parameters_vector.vector.detach() for each in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_minibatch_holds_at_least_one_sequence() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(**{"model.memory": "gru", "minibatch_size": 8})
    assert str(caught.value) == (
        "minibatch_size=8: with memory it must hold at least one sequence, of 16 steps; set minibatch_size=16 or more, "
        "or sequence_length=8"
    )
    make_config(**{"model.memory": "gru", "minibatch_size": 8, "rollout_steps": 8})


# --- evaluation and agent --------------------------------------------------------------------------------------------


def test_an_evaluation_forgets_where_an_episode_begins_and_there_alone() -> None:
    """Environments of episodes of 3, 5 and 2 steps; a policy that is asked once by once says what is right."""
    config = tiny_config("probe/Diary-v0", **MEMORY)
    env = make_env(config)
    policy = make_policy(config, env)
    with torch.no_grad():
        policy.action_head.weight.mul_(100.0)
    actor = PolicyActor(policy)
    rows: list[np.ndarray] = []
    states: list[torch.Tensor] = []

    def act(observations: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        rows.append(observations.copy())
        states.append(policy.no_memories(4, actor_alone=True) if actor.state is None else actor.state)
        return actor(observations)

    with evaluating(policy):
        env.reset()
        for _ in range(3):
            play_episodes(act, env, actor.forget)
            actor.forget()
    env.close()
    for seen, state in zip(rows, states, strict=True):
        first = seen[:, 1] == 0
        assert not state[:, torch.from_numpy(first)].any()
        assert state[:, torch.from_numpy(~first)].any(0).any(-1).all()


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_an_agent_remembers_until_it_is_reset(kind: str) -> None:
    agent = made_agent(BOX, spaces.Box(-9, 9, (2,), np.float32), **{"model.memory": kind, "model.memory_size": 6})
    observations = some(BOX, 4)
    assert agent.state is None
    first = [agent.act(each) for each in observations]
    assert agent.state is not None and agent.state.shape == (1, 2 if kind == "lstm" else 1, 6)
    on = [agent.act(each) for each in observations]
    agent.reset()
    again = [agent.act(each) for each in observations]
    assert np.array_equal(first, again) and not np.allclose(first, on)


def test_an_agent_takes_a_state_and_resets_some_of_a_batch() -> None:
    agent = made_agent(BOX, spaces.Box(-9, 9, (2,), np.float32), **MEMORY)
    batch, following = np.stack(some(BOX, 3)), np.stack(some(BOX, 3, seed=1))
    agent.act(batch)
    held = agent.state
    on = agent.act(following)
    assert np.array_equal(agent.act(following, state=held), on)
    agent.act(batch, state=np.zeros((3, 1, 6)))
    agent.reset([True, False, False])
    mixed = agent.act(following)
    agent.reset()
    anew = agent.act(following)
    np.testing.assert_allclose(mixed[1:], on[1:], rtol=1e-5)
    np.testing.assert_allclose(mixed[0], anew[0], rtol=1e-5)
    assert not np.allclose(anew, on)


def test_mistakes_with_the_memory_of_an_agent_are_told_in_one_line() -> None:
    agent = made_agent(BOX, spaces.Discrete(2), **MEMORY)
    agent.act(np.stack(some(BOX, 3)))
    for call, told in (
        (lambda: agent.act(some(BOX, 1)[0]), "observation: is of 1, and the memory of 3; call reset() where episodes"),
        (lambda: agent.act(some(BOX, 1)[0], state=np.zeros(6)), "state: has shape (6,); for 1 observations it has (1"),
        (lambda: agent.reset([1, 0, 0]), "which: is of shape (3,) and type int64; give 3 values of True or False"),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value).startswith(told)
    plain = made_agent(BOX, spaces.Discrete(2))
    plain.reset()
    with pytest.raises(ConfigError, match="state: this policy has no memory"):
        plain.act(some(BOX, 1)[0], state=np.zeros((1, 1, 6)))


def test_an_evaluation_leaves_the_agent_s_own_memory_alone() -> None:
    agent = made_agent(BOX, spaces.Discrete(2), **MEMORY)
    agent.act(some(BOX, 1)[0])
    held = agent.state
    assert held is not None
    agent.evaluate(episodes=2)
    assert np.array_equal(agent.state, held)
