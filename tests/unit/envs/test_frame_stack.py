"""The last observations are seen together, on every backend."""

from __future__ import annotations

import copy
import math
import pickle
from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import probe_envs  # noqa: F401
import pytest
from gymnasium import spaces

from ppolab.agents.export import described
from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.factory import make_vector_env
from ppolab.envs.frame_stack import FrameStack, StackedFrames, stacked_space
from ppolab.envs.making import make_env
from ppolab.envs.spaces import image_part, is_image, row_encoder
from ppolab.errors import ConfigError

BYTES = np.uint8
SPACES = {
    "vector": (spaces.Box(-1, 2, (3,)), spaces.Box(-1, 2, (6,))),
    "picture, channels first": (spaces.Box(0, 255, (3, 9, 9), BYTES), spaces.Box(0, 255, (6, 9, 9), BYTES)),
    "picture, channels last": (spaces.Box(0, 255, (9, 9, 3), BYTES), spaces.Box(0, 255, (9, 9, 6), BYTES)),
    "picture in grey": (spaces.Box(0, 255, (9, 9), BYTES), spaces.Box(0, 255, (2, 9, 9), BYTES)),
    "number": (spaces.Discrete(4, start=1), spaces.MultiDiscrete([4, 4], start=[1, 1])),
    "numbers": (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 3, 2, 3])),
    "bits": (spaces.MultiBinary(3), spaces.MultiBinary((6,))),
    "parts": (
        spaces.Dict(a=spaces.Box(0, 1, (1,)), b=spaces.Tuple([spaces.Discrete(2)])),
        spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Tuple([spaces.MultiDiscrete([2, 2])])),
    ),
}


@pytest.mark.parametrize("kind", SPACES)
def test_the_stack_of_two_lies_in_its_space(kind: str) -> None:
    space, expected = SPACES[kind]
    assert stacked_space(space, 2) == expected

    class Env(gymnasium.Env[Any, Any]):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return space.sample(), {}

        def step(self, action: Any) -> Any:
            return space.sample(), 0.0, False, False, {}

    env = StackedFrames(Env(), 2)
    assert expected.contains(env.reset()[0])
    assert expected.contains(env.step(0)[0])


def test_the_oldest_comes_first_and_an_episode_begins_with_its_first_observation() -> None:
    stack = FrameStack(spaces.Box(0, 99, (1,)), 3)
    everyone = np.array([True, True])
    assert stack.begun(np.array([[1.0], [2.0]]), everyone).tolist() == [[1, 1, 1], [2, 2, 2]]
    assert stack.stepped(np.array([[3.0], [4.0]]), ~everyone).tolist() == [[1, 1, 3], [2, 2, 4]]
    assert stack.stepped(np.array([[5.0], [6.0]]), np.array([False, True])).tolist() == [[1, 3, 5], [6, 6, 6]]
    other = FrameStack(spaces.Box(0, 99, (1,)), 3)
    other.load(stack.of_each_environment())
    assert other.stepped(np.array([[7.0], [8.0]]), ~everyone).tolist() == [[3, 5, 7], [6, 6, 8]]


def test_channels_are_stacked_pixel_by_pixel() -> None:
    stack = FrameStack(spaces.Box(0, 255, (9, 9, 2), BYTES), 2)
    first = np.full((1, 9, 9, 2), [1, 2], BYTES)
    stack.begun(first, np.array([True]))
    assert stack.stepped(first + 10, np.array([False]))[0, 4, 4].tolist() == [1, 2, 11, 12]


@pytest.mark.parametrize(
    ("shape", "count", "seen"),
    [
        ((10, 12, 3), 4, (12, 10, 12)),
        ((8, 200, 3), 4, (12, 8, 200)),
        ((5, 7, 3), 2, (6, 5, 7)),
        ((16, 20, 3), 8, (24, 16, 20)),
        ((3, 4, 5), 2, (6, 4, 5)),
        ((5, 7), 7, (7, 5, 7)),
    ],
)
def test_a_stack_has_its_channels_where_one_frame_has_them(
    shape: tuple[int, ...], count: int, seen: tuple[int, int, int]
) -> None:
    space = spaces.Dict(eye=spaces.Tuple([spaces.Box(0, 255, shape, BYTES)]))
    stack = pickle.loads(pickle.dumps(copy.deepcopy(stacked_space(space, count))))
    layout, _ = row_encoder(stack)
    assert layout.images[0].channels_first == seen


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_vector_environment_keeps_where_the_channels_are(backend: str) -> None:
    kwargs = {"observation_space": spaces.Box(0, 255, (10, 12, 3), BYTES), "action_space": spaces.Discrete(2)}
    env = EnvConfig(id="probe/AnySpace-v0", kwargs=kwargs, frame_stack=4, vectorization=backend)
    with closing(make_vector_env(env, [1, 2], "gymnasium")) as two:
        assert two.layout.images[0].channels_first == (12, 10, 12)
        assert two.reset().shape == (2, 10 * 12 * 12)


def test_an_export_describes_a_stack_as_a_box() -> None:
    assert described(stacked_space(spaces.Box(0, 1, (1,)), 2)) == {
        "type": "Box", "shape": [2], "dtype": "float32", "low": [0.0, 0.0], "high": [1.0, 1.0],
    }  # fmt: skip


def test_stacked_rows_of_numbers_are_no_image() -> None:
    space = spaces.Box(0, 1, (4, 10))
    assert not is_image(space) and not is_image(stacked_space(space, 4))


def test_a_space_without_numbers_cannot_be_stacked() -> None:
    with pytest.raises(ConfigError, match=r"^env\.frame_stack=2: observations of Text.* cannot be stacked"):
        stacked_space(spaces.Text(3), 2)


def made(backend: str, seeds: list[int], **settings: Any) -> Any:
    return make_vector_env(EnvConfig(id="CartPole-v1", num_threads=1, **settings), seeds, backend)


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_stacks_of_a_backend_are_what_it_returned_before(backend: str) -> None:
    if backend == "envpool" and not envpool_ids.is_installed():
        pytest.skip("EnvPool has no build for this platform")
    plain, three = made(backend, [3, 4]), made(backend, [3, 4], frame_stack=3)
    assert three.layout.vector_size == 12
    seen, ended = [plain.reset()] * 3, np.zeros(2, dtype=bool)
    assert (three.reset() == np.concatenate(seen, axis=1)).all()
    for _ in range(60):  # several episodes of each
        step, stacked = plain.step(np.ones((2, 1), np.int64)), three.step(np.ones((2, 1), np.int64))
        seen = [*seen[1:], step.observations]
        seen = [np.where(ended[:, None], step.observations, frame) for frame in seen]
        assert (stacked.observations == np.concatenate(seen, axis=1)).all()
        ended = step.terminated | step.truncated


PICTURES: dict[str, tuple[EnvConfig, str, tuple[int, ...], int]] = {
    "gymnasium": (EnvConfig(id="probe/Dot-v0"), "gymnasium", (9, 10, 1), -1),
    "envpool": (EnvConfig(id="MiniGrid-Empty-5x5-v0", kwargs={"max_episode_steps": 15}), "envpool", (7, 7, 3), -1),
    "envpool's own": (EnvConfig(id="Breakout-v5", kwargs={"max_episode_steps": 15}), "envpool", (1, 84, 84), 1),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_a_backend_are_stacked_in_their_channels(kind: str) -> None:
    env, backend, shape, axis = PICTURES[kind]
    if backend == "envpool" and not envpool_ids.is_installed():
        pytest.skip("EnvPool has no build for this platform")
    env = replace(env, num_threads=1)
    plain, two = (make_vector_env(replace(env, frame_stack=count), [3, 4], backend) for count in (1, 2))

    def pixels(rows: Any, count: int) -> Any:  # they follow the numbers
        start = np.dtype(np.float64).itemsize * (plain if count == 1 else two).layout.vector_size
        return rows[:, start : start + count * math.prod(shape)]

    first = pixels(plain.reset(), 1).reshape(2, *shape)
    seen, ended = [first] * 2, np.zeros(2, dtype=bool)
    assert (pixels(two.reset(), 2) == np.concatenate(seen, axis=axis).reshape(2, -1)).all()
    for _ in range(40):  # several episodes
        step, stacked = plain.step(np.ones((2, 1), np.int64)), two.step(np.ones((2, 1), np.int64))
        new = pixels(step.observations, 1).reshape(2, *shape)
        seen = [np.where(ended.reshape(2, 1, 1, 1), new, frame) for frame in (*seen[1:], new)]
        assert (pixels(stacked.observations, 2) == np.concatenate(seen, axis=axis).reshape(2, -1)).all()
        ended = step.terminated | step.truncated


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_a_restored_stack_goes_on(backend: str) -> None:
    if backend == "envpool" and not envpool_ids.is_installed():
        pytest.skip("EnvPool has no build for this platform")
    env, other = made(backend, [3, 4], frame_stack=3), made(backend, [8, 9], frame_stack=3)
    env.reset()
    other.reset()
    for _ in range(7):
        env.step(np.ones((2, 1), np.int64))
    other.restore(env.state())
    for _ in range(30):
        action = np.ones((2, 1), np.int64)
        assert (env.step(action).observations == other.step(action).observations).all()


def test_atari_stacks_its_frames_itself() -> None:
    if not envpool_ids.is_installed():
        pytest.skip("EnvPool has no build for this platform")
    env = EnvConfig(id="Pong-v5", frame_stack=2, num_threads=1)
    pool = make_vector_env(env, [1], "envpool")
    assert pool.observation_space.shape == make_env(env).observation_space.shape == (2, 84, 84)
    pool.use_kwargs({"frame_skip": 2})
    pool.restart([2])
    assert pool.reset().shape == (1, 2 * 84 * 84)
    assert not envpool_ids.stacks_itself("CartPole-v1")


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [
        ((84, 84, 3), True),
        ((4, 84, 84), False),
        ((7, 7, 9), True),  # three frames of 7 x 7 x 3
        ((9, 7, 7), False),
        ((3, 3, 3), True),
        ((210, 160, 3), True),
        ((3, 210, 160), False),
    ],
)
def test_channels_are_known_by_the_shape(shape: tuple[int, int, int], channels_last: bool) -> None:
    assert image_part("", spaces.Box(0, 255, shape, np.uint8)).channels_last is channels_last
