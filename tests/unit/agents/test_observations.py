"""What is an observation, what is a batch of them, and what is neither."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppolab.agents.observations import ObservationReader
from ppolab.errors import ConfigError, EnvError

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
MIXED = spaces.Dict(
    {"place": spaces.Discrete(4, start=1), "speed": spaces.Box(-1, 1, (2,)), "flags": spaces.MultiBinary(2)}
)
PIXELS = spaces.Box(0, 255, (2, 3), np.uint8)
DEPTHS = spaces.Box(-1.0, 1.0, (9, 10), np.float32)
PAIR = spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3])))

ONE = {"place": 2, "speed": np.array([0.5, -0.5]), "flags": np.array([0, 1], dtype=np.int8)}
TWO = {"place": np.array([2, 4]), "speed": np.array([[0.5, -0.5], [0.0, 1.0]]), "flags": np.array([[0, 1], [1, 1]])}


@pytest.mark.parametrize(
    ("space", "value", "rows", "alone"),
    [
        (BOX, np.array([1.0, 2.0, 3.0]), [[1, 2, 3]], True),
        (BOX, [1, 2, 3], [[1, 2, 3]], True),
        (BOX, torch.tensor([1.0, 2.0, 3.0]), [[1, 2, 3]], True),
        (BOX, np.array([[1, 2, 3]], dtype=np.float32), [[1, 2, 3]], False),
        (BOX, np.zeros((0, 3)), np.zeros((0, 3)), False),
        (spaces.Discrete(3), 1, [[0, 1, 0]], True),
        (spaces.Discrete(3), np.int64(2), [[0, 0, 1]], True),
        (spaces.Discrete(3, start=-1), np.array([-1, 1]), [[1, 0, 0], [0, 0, 1]], False),
        (spaces.MultiBinary(2), np.array([True, False]), [[1, 0]], True),
        (MIXED, ONE, [[0, 1, 0, 1, 0, 0, 0.5, -0.5]], True),
        (MIXED, OrderedDict(ONE), [[0, 1, 0, 1, 0, 0, 0.5, -0.5]], True),
        (MIXED, TWO, [[0, 1, 0, 1, 0, 0, 0.5, -0.5], [1, 1, 0, 0, 0, 1, 0, 1]], False),
        (PAIR, (np.array([0.5, 1.0]), np.array([1, 2])), [[0.5, 1, 0, 1, 0, 0, 1]], True),
        (PAIR, (np.array([[0.5, 1.0]]), np.array([[0, 0]])), [[0.5, 1, 1, 0, 1, 0, 0]], False),
    ],
)
def test_the_shape_of_the_space_decides(space: spaces.Space[Any], value: Any, rows: Any, alone: bool) -> None:
    found, was_alone = ObservationReader(space)(value)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, rows)
    assert was_alone is alone


@pytest.mark.parametrize(
    ("space", "value", "told"),
    [
        (BOX, np.zeros(4), "observation: has shape (4,); one observation has (3,), a batch of N has (N, 3)"),
        (BOX, np.zeros((2, 4)), "observation: has shape (2, 4); one observation has (3,), a batch of N has (N, 3)"),
        (BOX, 1.0, "observation: has shape (); one observation has (3,), a batch of N has (N, 3)"),
        (BOX, np.array([0.0, np.nan, 0.0]), "observation: holds nan (number 1)"),
        (BOX, np.array([[0.0] * 3, [0.0, 0.0, np.inf]]), "observation: holds inf (row 1, number 2)"),
        (BOX, ["a", "b", "c"], "observation: is of type <U1; give numbers of shape (3,)"),
        (BOX, [[1.0], [1.0, 2.0]], "observation: is no array of numbers: "),
        (BOX, None, "observation: is of type object; give numbers of shape (3,)"),
        (BOX, {"x": 1}, "observation: is of type object; give numbers"),
        (spaces.Discrete(3), 1.0, "observation: is of type float64; give whole numbers of shape ()"),
        (spaces.Discrete(3), [[1]], "observation: has shape (1, 1); one observation has (), a batch of N has (N,)"),
        (spaces.MultiBinary(2), [0, 2], "observation: holds other numbers than 0 and 1"),
        (PIXELS, np.full((2, 3), 0.5), "observation: holds 0.5, which is no byte; give whole numbers from 0 to 255"),
        (PIXELS, np.full((2, 3), 300), "observation: holds 300, which is no byte"),
        (PIXELS, np.full((1, 2, 3), -1), "observation: holds -1, which is no byte"),
        (PIXELS, np.full((2, 3), np.nan), "observation: holds nan; mend what makes the observations"),
        (spaces.Dict(eye=DEPTHS), {"eye": np.full((9, 10), np.inf)}, "observation['eye']: holds inf; mend"),
        (MIXED, {"place": 2, "speed": [0.0, 0.0]}, "observation: lacks the key 'flags'; it needs 'flags', 'place',"),
        (MIXED, np.zeros(8), "observation: is a ndarray; give a dict with the keys 'flags', 'place', 'speed'"),
        (MIXED, {**ONE, "speed": np.zeros(3)}, "observation['speed']: has shape (3,); one observation has (2,)"),
        (MIXED, {**ONE, "speed": np.zeros((5, 2))}, "different numbers of observations ('flags': one, 'place': one,"),
        (PAIR, (np.zeros(2),), "observation: is no tuple of 2 parts"),
    ],
)
def test_what_is_no_observation_is_answered_in_one_line(space: spaces.Space[Any], value: Any, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ObservationReader(space)(value)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_images_may_be_of_another_type_and_of_any_number() -> None:
    reader = ObservationReader(spaces.Dict(eye=PIXELS, speed=BOX))
    eye, speed = np.arange(6).reshape(2, 3), np.zeros(3)
    expected, _ = reader({"eye": eye.astype(np.uint8), "speed": speed})
    np.testing.assert_array_equal(reader({"eye": eye.astype(np.float64), "speed": speed})[0], expected)
    rows, alone = reader({"eye": eye[None].repeat(0, axis=0), "speed": speed[None].repeat(0, axis=0)})
    assert rows.shape == (0, expected.shape[1]) and not alone
    assert ObservationReader(PIXELS)(eye[None].repeat(0, axis=0))[0].shape == (0, 6)


def test_a_number_outside_a_discrete_space_is_told() -> None:
    with pytest.raises(EnvError, match=r"a discrete observation lies outside its space: \[3\]"):
        ObservationReader(spaces.Discrete(3))(3)
