"""Which whole numbers of an action are choices, and how a choice becomes the environment's action."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppolab.core.distributions import DiagonalGaussian, Joint, MultiCategorical
from ppolab.envs.choices import MOST_VALUES, Choices, Combinations, choice_sizes, with_choices
from ppolab.envs.spaces import ActionMapping, action_decoder, policy_bounds
from ppolab.learning.actor_critic import action_distribution

UNEVEN = spaces.Box(np.array([-2, 5], np.int16), np.array([0, 8], np.int16), dtype=np.int16)
"""3 and 4 values."""


def whole(low: float, high: float, dtype: Any = np.int32, shape: tuple[int, ...] = (2,)) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "sizes"),
    [
        (UNEVEN, (3, 4)),
        (whole(0, 1, np.uint8, (2, 2)), (2, 2, 2, 2)),
        (whole(-50, 49, np.int8, ()), (100,)),
        (whole(7, 7), (1, 1)),
        (spaces.Discrete(5, start=2), (5,)),
        (spaces.MultiDiscrete([2, 3]), (2, 3)),
        # these are numbers:
        (whole(-50, 50, np.int8), ()),
        (spaces.Box(np.array([0, 0]), np.array([1, 100]), dtype=np.int64), ()),  # of one component alone
        (whole(0, np.inf), ()),
        (whole(2**63, 2**63 + 3, np.uint64), ()),  # PyTorch does not hold them
        (whole(0, 1, np.float32), ()),
        (spaces.MultiBinary(3), ()),
    ],
    ids=str,
)
def test_few_values_are_choices(space: spaces.Space[Any], sizes: tuple[int, ...]) -> None:
    assert choice_sizes(space) == sizes
    assert isinstance(with_choices(space), Choices) == bool(isinstance(space, spaces.Box) and sizes)
    assert MOST_VALUES == 100


@pytest.mark.parametrize("mapping", [ActionMapping(), ActionMapping(rescale=False), ActionMapping(squash=True)])
def test_choices_are_counted_from_the_lowest_value(mapping: ActionMapping) -> None:
    chosen = with_choices(UNEVEN)
    actions = action_decoder(chosen, mapping)(np.array([[0, 0], [2, 3], [1, 2]]))
    assert actions.dtype == np.int16 and actions.tolist() == [[-2, 5], [0, 8], [-1, 7]]
    square = action_decoder(with_choices(whole(3, 9, np.uint8, (2, 2))), mapping)(np.array([[0, 1, 2, 6]]))
    assert square.dtype == np.uint8 and square.tolist() == [[[3, 4], [5, 9]]]
    number = action_decoder(with_choices(whole(-50, 49, np.int8, ())), mapping)(np.array([[99], [0]]))
    assert number.dtype == np.int8 and number.tolist() == [49, -50]
    assert policy_bounds(chosen, mapping) is None
    assert action_distribution(chosen) == MultiCategorical((3, 4))


def test_choices_among_other_parts_of_an_action() -> None:
    space = spaces.Dict([("z", UNEVEN), ("a", spaces.Tuple((whole(0, 1000, shape=(1,)), spaces.Discrete(2))))])
    chosen = with_choices(space)
    assert action_distribution(chosen) == Joint((MultiCategorical((3, 4, 2)), DiagonalGaussian(1)))
    actions = action_decoder(chosen, ActionMapping())(np.array([[2, 3, 1, -1.0]], np.float32))
    assert list(actions) == ["z", "a"]
    assert actions["z"].tolist() == [[0, 8]] and actions["z"].dtype == np.int16
    assert actions["a"][0].tolist() == [[0]] and actions["a"][1].tolist() == [1]


@pytest.mark.parametrize("space", [UNEVEN, spaces.MultiDiscrete([3, 4], start=[-2, 5])], ids=str)
def test_combinations_are_counted_as_numpy_does(space: Any) -> None:
    chosen = Combinations(space)
    assert chosen.n == 12 and action_distribution(chosen) == MultiCategorical((12,))
    actions = action_decoder(chosen, ActionMapping())(np.arange(12)[:, None])
    assert actions.dtype == space.dtype and actions.shape == (12, 2) and all(map(space.contains, actions))
    assert np.ravel_multi_index((actions - [-2, 5]).T, (3, 4)).tolist() == list(range(12))
    assert actions[[0, 1, 4]].tolist() == [[-2, 5], [-2, 6], [-1, 5]]
