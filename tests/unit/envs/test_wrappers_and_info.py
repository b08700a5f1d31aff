"""The user's own wrappers, and what of an environment's info reaches a step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_config

from ppolab.agents.policy import build_policy
from ppolab.agents.video import record_video
from ppolab.config.schema import EnvConfig
from ppolab.envs.factory import backend_choice, check_environment, choose_backend, environment_spaces, make_vector_env
from ppolab.envs.vector_env import Step, VectorEnv
from ppolab.errors import ConfigError, EnvError


def cartpole(*wrappers: str, **settings: Any) -> EnvConfig:
    return EnvConfig(id="CartPole-v1", wrappers=[f"sample_wrappers:{name}" for name in wrappers], **settings)


def made(env: EnvConfig, num_envs: int = 2) -> VectorEnv:
    return make_vector_env(env, list(range(num_envs)), choose_backend(env))


def steps(env: VectorEnv, count: int) -> list[Step]:
    env.reset()
    found = [env.step(np.zeros((env.num_envs, 1), dtype=np.int64)) for _ in range(count)]
    env.close()
    return found


@pytest.mark.parametrize(
    ("wrappers", "reward"),
    [((), 1.0), (("Doubled",), 2.0), (("Doubled", "PlusOne"), 3.0), (("PlusOne", "Doubled"), 4.0)],
)
def test_the_first_wrapper_is_the_innermost(wrappers: tuple[str, ...], reward: float) -> None:
    assert steps(made(cartpole(*wrappers, backend="gymnasium")), 1)[0].rewards.tolist() == [reward, reward]


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_spaces_and_time_limit_are_those_of_the_wrapped_environment(vectorization: str) -> None:
    env = cartpole("Halved", "ten_steps", vectorization=vectorization)
    assert environment_spaces(env)[0].shape == (2,)
    vector_env = made(env)
    assert (vector_env.layout.vector_size, vector_env.longest_episode) == (2, 10)
    vector_env.close()


def test_without_wrappers_the_time_limit_is_the_registered_or_the_given_one() -> None:
    limits = []
    for kwargs in ({}, {"max_episode_steps": 20}, {"max_episode_steps": -1}):
        env = made(EnvConfig(id="CartPole-v1", backend="gymnasium", kwargs=kwargs))
        limits.append(env.longest_episode)
        env.close()
    assert limits == [500, 20, None]


def test_auto_takes_gymnasium_and_says_why_it_is_slower() -> None:
    choice = backend_choice(cartpole("PlusOne"))
    assert choice.name == "gymnasium" and "slower, since env.wrappers" in choice.notes[0]


def test_a_wrapped_environment_is_filmed(tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    env = cartpole("Doubled", "ten_steps")
    vector_env = made(env)
    policy = build_policy(make_config(env="cartpole"), vector_env)
    vector_env.close()
    total = record_video(policy, env, 0, tmp_path / "video.mp4")
    assert 16 <= total <= 20 and total % 2 == 0  # 2 a step, for at most ten steps; without wrappers a step pays 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Missing", "the module sample_wrappers has no Missing"),
        ("nothing", "nothing(env) must return a gymnasium.Env, not NoneType"),
        ("broken", "broken(env) raised RuntimeError: no such wrapper here"),
    ],
)
def test_a_wrapper_that_cannot_be_used_is_answered_in_one_line(name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_environment(cartpole(name))
    assert str(caught.value).startswith(f"env.wrappers=[sample_wrappers:{name}]: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_exception_in_a_wrapper_names_it_and_its_line(vectorization: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ppolab")
    env = made(cartpole("Stumbles", "PlusOne", vectorization=vectorization))
    with pytest.raises(
        EnvError, match=r"raised at its step 3 in Stumbles: KeyError: 'lost' \(sample_wrappers\.py:\d+\)"
    ):
        steps(env, 3)
    assert "Traceback" in caplog.text and "sample_wrappers.py" in caplog.text


def test_envpool_takes_no_wrappers() -> None:
    with pytest.raises(ConfigError, match=r"env\.wrappers=\[my:W\]: .*; set env\.backend=gymnasium"):
        make_config(**{"env": "cartpole", "env.backend": "envpool", "env.wrappers": ["my:W"]})


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_info_is_that_of_the_episodes_that_ended(vectorization: str) -> None:
    env = cartpole("Doubled", "ten_steps", vectorization=vectorization, log_info=["total", "is_long"])
    found = steps(made(env), 12)
    ended = [step.info for step in found if step.info is not None]
    lengths = [t + 1 for t, step in enumerate(found) if (step.terminated | step.truncated).any()]
    assert lengths[0] <= 10 and len(ended) == len(lengths)
    assert [float(np.nanmax(info[:, 0])) for info in ended] == [2.0 * length for length in lengths]
    assert all(info[:, 1].max() == 0 for info in ended)


def test_info_of_envpool_is_read_on_both_of_its_lines() -> None:
    env = EnvConfig(id="Hopper-v5", backend="envpool", log_info=["x_position", "x_velocity"], num_threads=2)
    vector_env = make_vector_env(env, [0, 1, 2], "envpool")
    vector_env.reset()
    for _ in range(200):
        step = vector_env.step(np.full((3, 3), 0.3, dtype=np.float32))
        if step.info is not None:
            break
    vector_env.close()
    assert step.info is not None and step.info.shape == (3, 2)
    assert np.isfinite(step.info[step.terminated]).all()


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_an_unknown_entry_is_answered_with_those_there_are(backend: str) -> None:
    env = EnvConfig(id="Hopper-v5", backend=backend, log_info=["x_positon"])
    with pytest.raises(ConfigError) as caught:
        vector_env = make_vector_env(env, [0], backend)
        vector_env.reset()
        for _ in range(1000):
            vector_env.step(np.zeros((1, 3), dtype=np.float32))
    assert str(caught.value).startswith("env.log_info=[x_positon]: the environment's info has no such entry")
    assert "x_velocity" in str(caught.value) and "did you mean 'x_position'?" in str(caught.value)


def test_an_unknown_entry_is_told_by_a_worker_process_too() -> None:
    with pytest.raises(ConfigError, match="there are is_long, total"):
        steps(made(cartpole("Doubled", "ten_steps", vectorization="async", log_info=["success"])), 12)


def test_an_entry_of_several_numbers_is_refused() -> None:
    with pytest.raises(EnvError, match=r"info\['three'\] that is no single number"):
        steps(made(cartpole("Crowded", log_info=["three"])), 2)


@pytest.mark.parametrize(
    ("names", "problem"), [(["a,b"], "must be letters"), (["a", "a"], "names a twice"), ([""], "must be letters")]
)
def test_names_that_make_no_metrics_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make_config(**{"env": "cartpole", "env.log_info": names})
