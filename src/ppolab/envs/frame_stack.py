"""See the last k observations at once: a policy without memory learns how things move from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.spaces import StackedBox, first_of, image_part, is_image, parts_of, stacked
from ppolab.errors import ConfigError


def stacked_space(space: spaces.Space[Any], count: int) -> spaces.Space[Any]:
    """Return the space of `count` observations of `space`, the oldest first.

    Images are stacked in their channels, all else along its first axis.

    Raises:
        ConfigError: a part of the space cannot be stacked.
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: stacked_space(part, count) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([stacked_space(part, count) for part in space.spaces])
    if isinstance(space, spaces.Box):
        bounds = (_spread(bound, space) for bound in (space.low, space.high))
        low, high = (np.concatenate([bound] * count, axis=_axis(space)) for bound in bounds)
        last = image_part("", space).channels_last if is_image(space) else None
        return StackedBox(low, high, space.dtype, channels_last=last)
    if isinstance(space, spaces.Discrete):
        return spaces.MultiDiscrete([space.n] * count, start=[space.start] * count)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(np.concatenate([space.nvec] * count), start=np.concatenate([space.start] * count))
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary((count * space.shape[0], *space.shape[1:]))
    raise ConfigError(f"env.frame_stack={count}: observations of {space} cannot be stacked; leave it out")


class FrameStack:
    """Keep the last `count` observations of N environments.

    Args:
        apart: an entry of a Dict of which only the newest is seen.

    Attributes:
        frames: of every part of the space, the oldest first: arrays [N, ...].
    """

    def __init__(self, space: spaces.Space[Any], count: int, apart: str | None = None) -> None:
        self.frames: list[list[NDArray[Any]]] = []
        self._single = space
        self._count = count
        self._apart = apart
        if apart is not None:
            assert isinstance(space, spaces.Dict)
            self._single = spaces.Dict({key: part for key, part in space.spaces.items() if key != apart})
        self.space = stacked_space(self._single, count)
        if apart is not None:
            assert isinstance(space, spaces.Dict) and isinstance(self.space, spaces.Dict)
            self.space = spaces.Dict({**self.space.spaces, apart: space.spaces[apart]})

    def begun(self, batch: Any, which: NDArray[np.bool_]) -> Any:
        """Return stacks in which the environments where `which` [N] have seen nothing but their row of `batch`."""
        new = self._parts(batch)
        if not self.frames:
            self.frames = [[part] * self._count for part in new]
        self.frames = [
            [_with_rows(frame, which, part) for frame in frames] for frames, part in zip(self.frames, new, strict=True)
        ]
        return self._stacks(batch)

    def stepped(self, batch: Any, began: NDArray[np.bool_]) -> Any:
        """Return stacks with the next observations; where `began` [N] these are the first of an episode."""
        new = self._parts(batch)
        self.frames = [[*frames[1:], part] for frames, part in zip(self.frames, new, strict=True)]
        return self.begun(batch, began) if began.any() else self._stacks(batch)

    def of_each_environment(self) -> list[list[NDArray[Any]]]:
        """Return for every environment its frames, one array [count, ...] per part."""
        together = [np.stack(frames, axis=1) for frames in self.frames]
        return [[part[index].copy() for part in together] for index in range(len(together[0]))]

    def load(self, environments: Sequence[Sequence[NDArray[Any]]]) -> None:
        """Continue from what `of_each_environment` returned."""
        together = [np.stack(parts) for parts in zip(*environments, strict=True)]
        self.frames = [[part[:, place].copy() for place in range(self._count)] for part in together]

    def _parts(self, batch: Any) -> list[NDArray[Any]]:
        return [np.array(part) for part in parts_of(batch, self._single)]  # a copy: backends may use their arrays again

    def _stacks(self, batch: Any) -> Any:
        stacks = _rebuilt(self._single, iter(self.frames))
        return stacks if self._apart is None else {**stacks, self._apart: batch[self._apart]}


class StackedFrames(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment of Gymnasium's whose observations are the last `count`."""

    def __init__(self, env: gymnasium.Env[Any, Any], count: int, apart: str | None = None) -> None:
        super().__init__(env)
        self.observation_space = FrameStack(env.observation_space, count, apart).space
        self._frame_count = count
        self._apart = apart
        self._frames: list[list[NDArray[Any]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the first observation stands in all places."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, began=True), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation, began=False), reward, terminated, truncated, info

    def _seen(self, observation: Any, *, began: bool) -> Any:
        space = self.env.observation_space
        stack = FrameStack(space, self._frame_count, self._apart)
        stack.frames = [list(frames) for frames in self._frames]
        batch = stacked([observation], space)
        rows = np.array([True])
        seen = stack.begun(batch, rows) if began else stack.stepped(batch, ~rows)
        self._frames = stack.frames
        return first_of(seen)


def _axis(space: spaces.Box) -> int:
    if is_image(space):
        return -1 if image_part("", space).channels_last else 0
    return 0


def _spread(values: NDArray[Any], space: spaces.Box) -> NDArray[Any]:
    """Return values [...] with the axis that frames are stacked along: an image without channels gets one."""
    grey = is_image(space) and values.ndim == 2
    return values[None] if grey or values.ndim == 0 else values


def _stack(frames: list[NDArray[Any]], space: spaces.Space[Any]) -> NDArray[Any]:
    """Return the stacks [N, ...] of frames [N, ...] of a simple space."""
    if isinstance(space, spaces.Box):
        axis = _axis(space)
        grey = is_image(space) and len(space.shape) == 2
        rows = [frame[:, None] if grey or frame.ndim == 1 else frame for frame in frames]
        return np.concatenate(rows, axis=axis if axis < 0 else axis + 1)
    rows = [frame[:, None] if frame.ndim == 1 else frame for frame in frames]
    return np.concatenate(rows, axis=1)


def _rebuilt(space: spaces.Space[Any], frames: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _rebuilt(part, frames) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_rebuilt(part, frames) for part in space.spaces)
    return _stack(next(frames), space)


def _with_rows(frame: NDArray[Any], which: NDArray[np.bool_], rows: NDArray[Any]) -> NDArray[Any]:
    changed = frame.copy()
    changed[which] = rows[which]
    return changed
