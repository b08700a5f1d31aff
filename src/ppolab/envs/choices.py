"""Say what an action space is to a policy: which of its whole numbers are choices.

A Box of whole numbers with few values per component is a choice per component, like a MultiDiscrete. Where a mask of
actions has a flag for every combination of values, the action is one choice among the combinations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

MOST_VALUES = 100
"""Of each component of a Box whose whole numbers are choices. Where there are more, neighbours are mostly alike, which
a choice does not know; they stay numbers.
"""


class Choices(spaces.MultiDiscrete):
    """One choice per component of a Box of whole numbers, counted from 0.

    Attributes:
        environments: the Box. lowest: [K] the values of the environment that 0 stands for.
    """

    def __init__(self, environments: spaces.Box) -> None:
        super().__init__(np.array(choice_sizes(environments), dtype=np.int64))
        self.environments = environments
        self.lowest: NDArray[Any] = environments.low.reshape(-1)

    def decoded(self, choices: NDArray[Any]) -> NDArray[Any]:
        """Return a policy's choices [N, K] as a batch of actions [N, ...] of the environment."""
        return _placed(choices, self.lowest, self.environments)

    def __repr__(self) -> str:
        return repr(self.environments)


class Combinations(spaces.Discrete):
    """One choice among all combinations of the values of several components, the last of which changes fastest.

    So `numpy.ravel_multi_index` counts them.

    Attributes:
        environments: the Box or MultiDiscrete. sizes, lowest: [K] how many values each component has, and the first.
    """

    def __init__(self, environments: spaces.Box | spaces.MultiDiscrete) -> None:
        self.sizes = choice_sizes(environments)
        super().__init__(math.prod(self.sizes))
        self.environments = environments
        first = environments.low if isinstance(environments, spaces.Box) else environments.start
        self.lowest: NDArray[Any] = first.reshape(-1)

    def decoded(self, choices: NDArray[Any]) -> NDArray[Any]:
        """Return a policy's choices [N, 1] as a batch of actions [N, ...] of the environment."""
        values = np.stack(np.unravel_index(choices[:, 0], self.sizes), axis=1)
        return _placed(values, self.lowest, self.environments)

    def __repr__(self) -> str:
        return f"combinations of {self.environments}"


def _placed(values: NDArray[Any], lowest: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    assert space.shape is not None
    placed: NDArray[Any] = values.astype(space.dtype) + lowest
    return placed.reshape(-1, *space.shape)


def choice_sizes(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Return among how many values each component of a simple space chooses; nothing where it does not choose."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return tuple(map(int, space.nvec))
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.integer):
        return ()
    bounds = list(zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True))
    held = all(high - low < MOST_VALUES and high <= np.iinfo(np.int64).max for low, high in bounds)
    return tuple(high - low + 1 for low, high in bounds) if held else ()


def with_choices(action_space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the action space as a policy has it: every Box in it that is choices is a `Choices`."""
    if isinstance(action_space, spaces.Dict):
        return spaces.Dict([(key, with_choices(part)) for key, part in action_space.spaces.items()])
    if isinstance(action_space, spaces.Tuple):
        return spaces.Tuple([with_choices(part) for part in action_space.spaces])
    if isinstance(action_space, spaces.Box) and choice_sizes(action_space):
        return Choices(action_space)
    return action_space
