"""When mujoco-warp simulates a task, and what is refused before it is imported."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from helpers import make_config

from ppolab.config.schema import EnvConfig
from ppolab.envs.backend_choice import BackendChoice, backend_choice, choose_backend
from ppolab.envs.factory import check_environment, evaluation_backend, for_evaluation
from ppolab.envs.warp.backend import check_body, task_of
from ppolab.envs.warp.tasks import TASKS
from ppolab.errors import ConfigError


def on_warp(env_id: str = "Hopper-v5", **settings: Any) -> EnvConfig:
    return EnvConfig(id=env_id, backend="warp", **settings)


@pytest.mark.parametrize("env_id", TASKS)
def test_it_simulates_only_what_is_told_to(env_id: str) -> None:
    check_environment(on_warp(env_id))
    assert backend_choice(on_warp(env_id)) == BackendChoice("warp")
    assert choose_backend(EnvConfig(id=env_id)) != "warp"


def test_evaluations_are_played_on_the_processor() -> None:
    env = on_warp(kwargs={"healthy_reward": 2.0})
    evaluated = for_evaluation(env)
    assert (evaluated.backend, evaluated.kwargs) == ("auto", env.kwargs)
    assert choose_backend(evaluated) == evaluation_backend(env) == "gymnasium"


def test_arguments_reach_the_task() -> None:
    env = on_warp(kwargs={"healthy_reward": 2, "healthy_z_range": [0.5, 3], "width": 64, "max_episode_steps": 7})
    check_environment(env)
    task: Any = task_of(env)
    assert (task.healthy_reward, task.healthy_z_range, task.ctrl_cost_weight) == (2, [0.5, 3], 1e-3)


MISTAKES: dict[str, tuple[EnvConfig, str]] = {
    "another version": (
        on_warp("Hopper-v4"),
        "env.id=Hopper-v4: mujoco-warp has no such task; use env.id=Hopper-v5, or env.backend=auto",
    ),
    "another task": (on_warp("CartPole-v1"), "env.id=CartPole-v1: mujoco-warp has Ant-v5, HalfCheetah-v5, "),
    "a name": (
        on_warp(kwargs={"healthy_rewrd": 2.0}),
        "env.kwargs.healthy_rewrd=2.0: Hopper-v5 has no such argument; did you mean 'healthy_reward'?",
    ),
    "no name": (
        on_warp(kwargs={"xyz": 1}),
        "env.kwargs.xyz=1: Hopper-v5 has no such argument; it takes ctrl_cost_weight",
    ),
    "a number": (
        on_warp(kwargs={"healthy_reward": "much"}),
        "env.kwargs.healthy_reward=much: must be a number, such as Gymnasium's 1.0",
    ),
    "true or false": (
        on_warp(kwargs={"terminate_when_unhealthy": 1}),
        "env.kwargs.terminate_when_unhealthy=1: must be true or false, such as Gymnasium's true",
    ),
    "two numbers": (on_warp(kwargs={"healthy_z_range": [1.0]}), "env.kwargs.healthy_z_range=.*: must be two numbers"),
    "a limit": (on_warp(kwargs={"max_episode_steps": 0}), "env.kwargs.max_episode_steps=0: must be a whole number"),
    "info": (on_warp(log_info=["x_position"]), r"env.log_info=\[x_position\]: mujoco-warp's worlds have no info"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake: str) -> None:
    env, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=message) as error:
        check_environment(env)
    assert "\n" not in str(error.value)


def test_a_body_that_is_not_there_is_answered_in_one_line() -> None:
    bodies = ["world", "torso", "front_left_leg", ""]
    for right in (0, 3, "torso"):
        check_body(on_warp("Ant-v5", kwargs={"main_body": right}), bodies)
    check_body(on_warp(), bodies)
    for wrong in (4, -1, 1.5, True, "leg"):
        with pytest.raises(ConfigError, match=r"^env\.kwargs\.main_body=.*: Ant-v5 has no such body; .* from 0 to 3"):
            check_body(on_warp("Ant-v5", kwargs={"main_body": wrong}), bodies)


@pytest.mark.parametrize("missing", ["warp", "mujoco_warp"])
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    package = {"warp": "warp-lang", "mujoco_warp": "mujoco-warp"}[missing]
    with pytest.raises(
        ConfigError, match=rf"env\.backend=warp: {package} is not installed; pip install 'ppolab\[warp\]'"
    ):
        check_environment(on_warp())
    check_environment(for_evaluation(on_warp()))  # elsewhere than on the machine that trained


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_warp_cannot_use_is_named() -> None:
    from ppolab.envs.warp.simulator import _usable

    with pytest.raises(ConfigError, match=r"env\.backend=warp: .* cannot use its driver; update the driver, or use "):
        _usable(torch.device("cuda"))


@pytest.mark.parametrize("given", ["cuda", "cuda:1"])
def test_warp_is_asked_for_the_gpu_by_its_number(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps a list of devices, in which PyTorch's `cuda` without a number has no place."""
    import warp

    from ppolab.envs.warp.simulator import _usable

    warp.init()
    monkeypatch.setattr(warp, "is_cuda_available", lambda: True)
    monkeypatch.setattr(warp._src.context.runtime, "cuda_devices", ["the first", "the second"])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert _usable(torch.device(given)) == {"cuda": "the first", "cuda:1": "the second"}[given]


@pytest.mark.parametrize("env", ["hopper", "ant"])
def test_the_preset_for_a_gpu_simulates_there(env: str) -> None:
    config = make_config("experiment=gpu", f"env={env}")
    assert (config.env.backend, config.trainer.accelerator) == ("warp", "gpu")
    assert 2048 <= config.num_envs <= 8192
    check_environment(config.env)
