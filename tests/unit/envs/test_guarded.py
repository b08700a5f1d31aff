"""What an environment may return, and what is said where it returns or raises something else."""

from __future__ import annotations

import logging
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium
import numpy as np
import probe_envs
import pytest
import torch
from gymnasium import spaces

from ppolab.config.schema import EnvConfig
from ppolab.envs.factory import VectorEnv, make_vector_env
from ppolab.envs.guarded import Guarded
from ppolab.errors import EnvError

BOX = spaces.Box(-9, 9, (2,), np.float32)


def stepped(space: spaces.Space[Any], **returned: Any) -> tuple[Any, ...]:
    env = Guarded(probe_envs.Returns(space, **returned), "mine", 3)
    env.reset(seed=0)
    return env.step(0)


# --- rewards and flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "number"),
    [
        (2, 2.0), (True, 1.0), (np.float32(0.5), 0.5), (np.int8(-3), -3.0), (np.array(4.0), 4.0),
        (torch.tensor(1.5), 1.5), (Fraction(1, 4), 0.25), (Decimal("0.5"), 0.5), (-math.inf, -math.inf),
    ],
)  # fmt: skip
def test_any_number_is_a_reward(reward: Any, number: float) -> None:
    found = stepped(BOX, reward=reward)[1]
    assert type(found) is float and found == number


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (np.array([1.0]), "of shape (1,), not a number"), ([1.0], "of shape (1,), not a number"),
        (torch.ones(2), "of shape (2,), not a number"), ((), "of shape (0,), not a number"),
        ([[1], [1, 2]], "of shape (rows of different lengths), not a number"), (None, "of type NoneType, not a number"),
        ("1.0", "of type str, not a number"), (b"1", "of type bytes, not a number"), (1j, "of type complex, not a num"),
        ({}, "of type dict, not a number"), pytest.param(object(), "of type object, not a number", id="object"),
    ],
    ids=str,
)  # fmt: skip
def test_any_other_reward_is_named(reward: Any, words: str) -> None:
    with pytest.raises(EnvError) as caught:
        stepped(BOX, reward=reward)
    assert str(caught.value).startswith(f"mine: environment 3 returned a reward {words}")
    assert str(caught.value).endswith(", at its step 1")


@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_flags_are_true_or_false(name: str) -> None:
    position = {"terminated": 2, "truncated": 3}[name]
    for value, flag in ((np.True_, True), (np.array(False), False), (1, True), (0, False), (None, False)):
        assert stepped(BOX, **{name: value})[position] is flag
    with pytest.raises(EnvError, match=rf"returned a value for {name} of shape \(1,\), not true or false, at its ste"):
        stepped(BOX, **{name: np.array([True])})


# --- observations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (BOX, np.array([1, 2], np.float32)), (BOX, np.array([1, 2], np.float64)), (BOX, [1, 2]), (BOX, (1.0, 2)),
        (BOX, np.array([True, False])), (BOX, torch.tensor([1.0, 2.0])),
        (spaces.Box(0, 9, (2,), np.uint8), [1, 2]), (spaces.Box(0, 9, (2,), np.uint8), np.array([1.0, 2.0])),
        (spaces.Discrete(3), 2), (spaces.Discrete(3), np.int32(2)), (spaces.Discrete(3), np.array(2)),
        (spaces.MultiDiscrete([2, 3]), [1, 2]), (spaces.MultiBinary(2), [True, False]),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_fit_get_the_declared_type(space: spaces.Space[Any], observation: Any) -> None:
    found = stepped(space, observation=observation)[0]
    assert found.dtype == space.dtype and found.shape == space.shape
    assert found.tolist() == np.asarray(observation).tolist()


def test_parts_of_an_observation_get_their_types_too() -> None:
    space = spaces.Dict(a=spaces.Tuple([spaces.Discrete(3), BOX]), b=spaces.MultiBinary(2))
    found = stepped(space, observation={"b": [0, 1], "a": [2, [1, 2]], "more": object()})[0]
    assert list(found) == ["a", "b"]
    assert found["a"][0] == 2 and found["a"][1].dtype == np.float32 and found["b"].dtype == np.int8


@pytest.mark.parametrize(
    ("space", "observation", "what", "declared"),
    [
        (BOX, np.zeros(3), "of shape (3,)", "(2,)"),
        (BOX, np.zeros((1, 2)), "of shape (1, 2)", "(2,)"),
        (BOX, 1.0, "of shape ()", "(2,)"),
        (BOX, [[1], [1, 2]], "of shape (rows of different lengths)", "(2,)"),
        (BOX, ["a", "b"], "of type <U1", "float32"),
        (BOX, [None, None], "of type list", "float32"),
        (BOX, np.array([1j, 2]), "of type complex128", "float32"),
        (spaces.Box(0, 9, (2,), np.uint8), [0.5, 1], "with 0.5, which does not fit its type", "uint8"),
        (spaces.Box(0, 9, (2,), np.uint8), [-1, 1], "with -1, which does not fit its type", "uint8"),
        (spaces.Box(0, 9, (1,), np.uint8), [math.nan], "with nan, which does not fit its type", "uint8"),
        (spaces.Discrete(3), 0.5, "with 0.5, which does not fit its type", "int64"),
        (spaces.Discrete(3), [1], "of shape (1,)", "()"),
        (spaces.Dict(a=BOX), [1, 2], "of type list", "a dictionary"),
        (spaces.Dict(a=BOX, b=BOX), {"b": [1, 2]}, "with the keys ['b']", "['a', 'b']"),
        (spaces.Dict(a=BOX), {"a": [1, 2, 3]}, "of shape (3,)", "(2,)"),
        (spaces.Tuple([BOX, BOX]), (np.zeros(2),), "of length 1", "a tuple of 2"),
        (spaces.Tuple([BOX]), np.zeros((1, 2)), "of type ndarray", "a tuple of 1"),
    ],
    ids=str,
)
def test_an_observation_that_does_not_fit_is_named(space: Any, observation: Any, what: str, declared: str) -> None:
    with pytest.raises(EnvError) as caught:
        stepped(space, observation=observation)
    told = f"returned an observation {what} at its step 1, but its observation space says {declared}"
    assert str(caught.value) == f"mine: environment 3 {told}"


def test_a_number_too_large_for_the_type_is_told_as_infinite() -> None:
    env = make_vector_env(
        EnvConfig(id="probe/Returns-v0", kwargs={"observation_space": BOX, "observation": [1e300, 0.0]}),
        [1],
        "gymnasium",
    )
    env.reset()
    with pytest.raises(EnvError, match="environment 0 returned a non-finite observation at its step 1"):
        env.step(np.zeros((1, 1), np.int64))


# --- info ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shape", "kind", "unsendable"])
def test_info_is_ignored_whatever_it_holds(kind: str) -> None:
    env = make_vector_env(EnvConfig(id="probe/ChangingInfo-v0", kwargs={"kind": kind}), [1, 2, 3, 4], "gymnasium")
    assert env.reset().tolist() == [[0]] * 4
    seen = [env.step(np.zeros((4, 1), np.int64)) for _ in range(7)]
    assert [step.observations[0, 0] for step in seen] == [1, 2, 3, 4, 0, 1, 2]
    assert [bool(step.valid[0]) for step in seen] == [True, True, True, True, False, True, True]


@pytest.mark.parametrize("info", [None, []])
def test_an_info_that_is_no_dictionary_is_named(info: Any) -> None:
    problem = f"mine: environment 3 returned an info of type {type(info).__name__}, not a dictionary, at its step 1"
    with pytest.raises(EnvError, match=problem):
        stepped(BOX, info=info)
    first = Guarded(probe_envs.Returns(BOX, first_info=info), "mine", 3)
    with pytest.raises(EnvError, match=r"not a dictionary, at its step 0"):
        first.reset(seed=0)


# --- exceptions ------------------------------------------------------------------------------------------------------


def provoked(env: VectorEnv) -> str:
    env.reset()
    with pytest.raises(EnvError) as caught:
        env.step(np.array([[0], [1]]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("fault", "source", "error"),
    [
        ("raise", 'raise RuntimeError("the simulator is on fire")', "RuntimeError: the simulator is on fire"),
        ("deep raise", "np.linalg.inv(vector(0))", "LinAlgError: 1-dimensional array given"),
    ],
)
def test_an_exception_has_the_user_s_file_and_line(
    fault: str, source: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    env = make_vector_env(EnvConfig(id="probe/Faulty-v0", kwargs={"fault": fault}), [1, 2], "gymnasium")
    with caplog.at_level(logging.DEBUG, "ppolab"):
        told = provoked(env)
    lines = probe_envs.__loader__.get_source("probe_envs").splitlines()  # type: ignore[union-attr]
    numbers = [number for number, line in enumerate(lines, 1) if line.strip().startswith(source)]
    assert told.startswith(f"probe/Faulty-v0: environment 1 raised at its step 1: {error}")
    assert any(told.endswith(f"(probe_envs.py:{number})") for number in numbers)
    (record,) = caplog.records
    assert record.levelname == "DEBUG" and record.message.startswith(told)
    assert "Traceback (most recent call last):" in record.message and source in record.message


def test_an_exception_without_a_frame_of_the_user_s_has_no_place() -> None:
    env = Guarded(gymnasium.wrappers.TimeLimit(probe_envs.Returns(BOX), 5), "mine", 0)
    with pytest.raises(EnvError) as caught:
        env.step(0)  # before a reset: Gymnasium's wrapper raises
    assert str(caught.value).startswith("mine: environment 0 raised at its step 1: ")
    assert not str(caught.value).endswith(")")


def test_a_fault_of_a_shipped_task_has_gymnasium_s_file_and_line() -> None:
    env = Guarded(gymnasium.make("CartPole-v1", disable_env_checker=True), "CartPole-v1", 0)
    env.reset(seed=0)
    with pytest.raises(EnvError) as caught:
        env.step(7)
    assert re.search(r"AssertionError: .*\(cartpole\.py:\d+\)$", str(caught.value))


def test_an_exception_of_many_lines_is_told_in_one() -> None:
    env = Guarded(probe_envs.Returns(BOX), "mine", 0)
    env.env.step = lambda action: exec("raise ValueError('one\\ntwo')")  # type: ignore[method-assign]
    with pytest.raises(EnvError) as caught:
        env.step(0)
    assert "ValueError: one" in str(caught.value) and "two" not in str(caught.value)
    assert "two" in caught.value.__notes__[0]
