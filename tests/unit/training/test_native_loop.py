"""The collecting loop in C++ against the one in Python, bit for bit."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_env, make_policy, tiny_config

from ppolab.config.schema import Config
from ppolab.envs import envpool_ids, pool_calls
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.errors import EnvError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.native import NativePolicy
from ppolab.learning.native.library import library_problem
from ppolab.learning.rollout import Rollout
from ppolab.training import collector as collecting
from ppolab.training.collector import Collector
from ppolab.training.native_loop import native_loop

pytestmark = [
    pytest.mark.skipif(not envpool_ids.has("CartPole-v1"), reason="EnvPool is not installed here"),
    pytest.mark.skipif(library_problem() is not None, reason="no C++ compiler here"),
]
CASES: dict[str, dict[str, Any]] = {
    "numbers of 64 bits": {
        "env_id": "Hopper-v5",
        "env.log_info": ["x_velocity", "x_position"],
        "env_kwargs": {"max_episode_steps": 7},
    },
    "numbers of 32 bits": {"env_id": "Pendulum-v1"},
    "bounds unlike -1 and 1, not rescaled": {"env_id": "Pendulum-v1", "env.rescale_actions": False},
    "choices": {"env_id": "CartPole-v1"},
    "hidden ends": {"env_id": "CartPole-v1", "env_kwargs": {"max_episode_steps": 10}, "num_envs": 24},
    "hidden ends of MuJoCo": {"env_id": "Hopper-v5", "env_kwargs": {"max_episode_steps": 12}, "num_envs": 12},
    "ends told by rewards": {"env_id": "InvertedDoublePendulum-v5", "env_kwargs": {"max_episode_steps": 6}},
    "scaled observations": {"env_id": "HalfCheetah-v5", "normalize_observations": True},
    "a GRU": {
        "env_id": "Hopper-v5",
        "env_kwargs": {"max_episode_steps": 7},
        "model.memory": "gru",
        "sequence_length": 3,
    },
    "an LSTM": {"env_id": "CartPole-v1", "env_kwargs": {"max_episode_steps": 9}, "model.memory": "lstm"},
    "an LSTM for both": {"env_id": "CartPole-v1", "model.memory": "lstm", "model.trunk": "shared"},
    "an observation of several parts": {"env_id": "CheetahRun-v1", "env_kwargs": {"max_episode_steps": 7}},
    "one environment": {"env_id": "CartPole-v1", "num_envs": 1},
    "one group": {"env_id": "Pendulum-v1", "env.num_threads": 1},
}


def configured(env_id: str = "CartPole-v1", **settings: Any) -> Config:
    return tiny_config(
        env_id, **({"env.backend": "envpool", "num_envs": 5, "env.num_threads": 2, "minibatch_size": 8} | settings)
    )


def parts(config: Config) -> tuple[Collector, ActorCritic, NativePolicy]:
    env = make_env(config)
    policy = make_policy(config, env)
    native = NativePolicy(policy, flatten_parameters(policy))
    generator = torch.Generator().manual_seed(3)
    collector = Collector(
        env, config.rollout_steps, config.gamma, generator, stagger=config.env.stagger, log_info=config.env.log_info,
        sequence_length=config.sequence_length,
    )  # fmt: skip
    return collector, policy, native


def told(rollout: Rollout) -> dict[str, Any]:
    """Everything in a rollout, as bytes where it is numbers."""
    return {field.name: as_bytes(getattr(rollout, field.name)) for field in dataclasses.fields(rollout)}


def as_bytes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: as_bytes(each) for name, each in value.items()}
    if dataclasses.is_dataclass(value):
        return {field.name: as_bytes(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [as_bytes(each) for each in value] if isinstance(value, list | tuple) else value


def run(config: Config) -> tuple[list[dict[str, Any]], Any, list[Rollout]]:
    """What four rollouts hold, of which the scaling learns between them, and the state after them."""
    collector, policy, native = parts(config)
    rollouts = []
    for _ in range(4):
        rollouts.append(collector.collect(policy, native))
        policy.observation_scale.merge(rollouts[-1].observation_moments)
    assert (collector._loop is None) == (collecting.native_loop is not native_loop)
    return [told(rollout) for rollout in rollouts], as_bytes(collector.state()), rollouts


@pytest.mark.parametrize("case", CASES)
def test_both_loops_give_the_same_numbers(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(**CASES[case])
    by_native = run(config)
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "native_loop", lambda *_: None)
        by_python = run(config)
    assert by_native[:2] == by_python[:2]
    rollouts = by_native[2]
    if "hidden" in case or "told" in case:
        assert any((rollout.terminated & rollout.truncated).any() for rollout in rollouts)
    if "log_info" in str(CASES[case]):
        assert {"x_position", "x_velocity"} == {
            name for each in rollouts for ended in each.episodes for name in ended.info
        }


def test_the_loop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    collector, policy, native = parts(configured())
    monkeypatch.setattr(collector, "_run", lambda *_: pytest.fail("Python collects"))
    collector.collect(policy, native)


def test_it_goes_on_in_environments_that_are_made_anew_or_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    def story() -> list[dict[str, Any]]:
        collector, policy, native = parts(configured("Hopper-v5"))
        rollouts = [collector.collect(policy, native)]
        state = collector.state()
        rollouts.append(collector.collect(policy, native))
        collector.restart(range(5))
        rollouts += [collector.collect(policy, native), collector.collect(policy, native)]
        assert state is not None
        collector.restore(state)
        return [told(each) for each in (*rollouts, collector.collect(policy, native))]

    by_native = story()
    monkeypatch.setattr(collecting, "native_loop", lambda *_: None)
    assert by_native == story()


def test_it_goes_on_from_the_other_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def story(*loops: str) -> list[dict[str, Any]]:
        collector, policy, native = parts(configured("Hopper-v5"))
        rollouts = []
        for loop in loops:
            with monkeypatch.context() as patch:
                if loop == "Python":
                    patch.setattr(collecting, "native_loop", lambda *_: None)
                rollouts.append(told(collector.collect(policy, native)))
        return [*rollouts, as_bytes(collector.state())]

    assert story("C++", "Python", "C++") == story("Python", "C++", "Python")


def test_the_number_of_groups_changes_nothing() -> None:
    collected = [run(configured("Hopper-v5", **{"env.num_threads": threads}))[:2] for threads in (1, 2)]
    assert collected[0] == collected[1]


@pytest.mark.parametrize(("longest", "step"), [(200, 9), (4, 8)])  # a row that only resets is no step
def test_a_number_that_is_not_finite_is_the_same_error(
    longest: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error() -> str:
        collector, policy, native = parts(configured("Pendulum-v1", env_kwargs={"max_episode_steps": longest}))
        collector.collect(policy, native)
        with torch.no_grad():
            policy.action_head.bias.fill_(torch.nan)
        with pytest.raises(EnvError) as raised:
            collector.collect(policy, native)
        return str(raised.value)

    by_native = error()
    assert by_native.startswith(f"Pendulum-v1: environment 0 returned a non-finite observation at its step {step}:")
    monkeypatch.setattr(collecting, "native_loop", lambda *_: None)
    assert error() == by_native


def broken(_pool: Any) -> Any:
    raise RuntimeError("XLA is disabled")


def test_python_collects_where_envpool_does_not_offer_its_functions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector, policy, native = parts(configured())
    for _, group in collector._env.groups:
        assert isinstance(group, EnvPoolEnv)
        monkeypatch.setattr(type(group._envs), "_xla", broken)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            collector.collect(policy, native)
    assert caplog.messages == [
        "CartPole-v1: Python collects step by step, which is slower, since EnvPool does not offer its functions "
        "(XLA is disabled)"
    ]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"env_id": "Hopper-v5", "env.squash_actions": True}, "the actions are of a kind that C++ does not know"),
        ({"env_id": "FrozenLake-v1"}, "the observation does not consist of floating-point numbers"),
        ({"env_id": "CartPole-v1", "env.frame_stack": 2}, "what these environments return is completed in Python"),
    ],
)
def test_what_needs_python_says_so(settings: dict[str, Any], reason: str) -> None:
    for _, group in make_env(configured(**settings)).groups:
        assert isinstance(group, EnvPoolEnv)
        with pytest.raises(pool_calls.NotCallableError, match=re.escape(reason)):
            group.calls()


def test_the_watchdog_sees_for_how_long_a_pool_is_waited_for() -> None:
    group = make_env(configured()).groups[0][1]
    assert isinstance(group, EnvPoolEnv)
    group.reset()
    assert group.waiting_since is None
    group.begin_calls()
    began = group.waiting_since
    group.calls().waiting[0] = 2.5
    assert began is not None and group.waiting_since == began + 2.5


def test_functions_of_another_kind_are_told() -> None:
    _, _, native = parts(configured())
    calls = make_env(configured()).groups[0][1].calls()  # type: ignore[attr-defined]
    assert native.library.ppo_problem_of_pool(calls.receive) is None
    assert native.library.ppo_problem_of_pool(calls.send) is None
