"""Arguments of EnvPool that are refused, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.factory import check_environment
from ppolab.envs.pool_making import made_pool
from ppolab.errors import ConfigError

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")


def refused(env_id: str = "Pong-v5", **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_environment(EnvConfig(id=env_id, **settings))
    return str(error.value)


@pytest.mark.parametrize(
    ("env_id", "name", "value", "instead"),
    [
        ("Pong-v5", "task", "breakout", "choose another task by env.id="),
        ("CheetahRun-v1", "task_name", "walk", "choose another task by env.id="),
        ("CoinrunEasy-v0", "env_name", "bigfish", "choose another task by env.id="),
        ("Pong-v5", "num_envs", 3, "set num_envs="),
        ("Pong-v5", "batch_size", 1, "set num_envs="),
        ("Pong-v5", "seed", 3, "set seed="),
        ("Pong-v5", "env_seed", [3], "set seed="),
        ("Pong-v5", "num_threads", 3, "set env.num_threads="),
        ("Pong-v5", "env_type", "dm", "leave it out"),
        ("Pong-v5", "base_path", "/nowhere", "leave it out"),
    ],
)
def test_arguments_that_are_not_for_users_say_what_to_set(env_id: str, name: str, value: Any, instead: str) -> None:
    expected = f"env.kwargs.{name}={value}: follows from env.id and settings of ppolab; {instead}"
    assert refused(env_id, kwargs={name: value}) == expected


def test_they_are_refused_where_envpool_is_chosen_by_name() -> None:
    expected = "env.kwargs.num_envs=3: follows from env.id and settings of ppolab; set num_envs="
    assert refused("Hopper-v5", backend="envpool", kwargs={"num_envs": 3}) == expected


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("stack_num", "x", "env.kwargs.stack_num=x: must be a whole number, such as EnvPool's 4"),
        ("stack_num", True, "env.kwargs.stack_num=true: must be a whole number, such as EnvPool's 4"),
        ("frame_skip", 2.5, "env.kwargs.frame_skip=2.5: must be a whole number, such as EnvPool's 4"),
        ("img_height", None, "env.kwargs.img_height=null: must be a whole number, such as EnvPool's 84"),
        ("episodic_life", 7, "env.kwargs.episodic_life=7: must be true or false, such as EnvPool's false"),
        (
            "repeat_action_probability", "often",
            "env.kwargs.repeat_action_probability=often: must be a number, such as EnvPool's 0.0",
        ),
        (
            "img_height", -5,
            "env.kwargs={'img_height': -5}: EnvPool does not take these for Pong-v5 (cannot create std::vector larger "
            "than max_size()); its own are img_height=84",
        ),
        (
            "img_height", 2**40,
            "env.kwargs={'img_height': 1099511627776}: EnvPool does not take these for Pong-v5 (a value or its type is "
            "wrong); its own are img_height=84",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_in_one_line(name: str, value: Any, answer: str) -> None:
    assert refused(kwargs={name: value}) == answer


def test_a_whole_number_is_a_number_and_lists_are_left_to_envpool() -> None:
    for env_id, name, value, taken in (
        ("Pong-v5", "repeat_action_probability", 1, 1.0),
        ("MiniGrid-Empty-5x5-v0", "agent_start_pos", [1, 2], (1, 2)),
    ):
        check_environment(EnvConfig(id=env_id, kwargs={name: value}))
        pool = made_pool(env_id, {name: value}, [0], num_threads=1)
        assert pool.spec.config._asdict()[name] == taken
        pool.close()


def test_a_value_with_which_envpool_writes_outside_of_its_memory_is_refused() -> None:
    assert refused("MiniGrid-Empty-5x5-v0", kwargs={"agent_view_size": 0}) == (
        "env.kwargs.agent_view_size=0: must be 7 or more, with less EnvPool writes outside of its memory; leave it out"
    )
    check_environment(EnvConfig(id="MiniGrid-Empty-5x5-v0", kwargs={"agent_view_size": 9}))


def test_two_numbers_of_frames_contradict_each_other() -> None:
    assert refused(frame_stack=3, kwargs={"stack_num": 2}) == (
        "env.frame_stack=3: env.kwargs.stack_num=2 asks for another number of frames; leave one of them out"
    )
    check_environment(EnvConfig(id="Pong-v5", frame_stack=3, kwargs={"stack_num": 3}))
