"""Both backends behind the one interface: resets, seeds, spaces, and what they say when something is wrong."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_backend, envpool_ids
from ppolab.envs.factory import (
    EVALUATION,
    TRAINING,
    VectorEnv,
    check_environment,
    choose_backend,
    environment_seeds,
    make_vector_env,
)
from ppolab.envs.spaces import ActionMapping, action_decoder, first_action, policy_bounds, row_encoder
from ppolab.errors import ConfigError, EnvError
from ppolab.learning.actor_critic import action_distribution

needs_envpool = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")


@contextmanager
def made(env_id: str, seeds: list[int], backend: str = "gymnasium", **settings) -> Iterator[VectorEnv]:
    env = make_vector_env(EnvConfig(id=env_id, **settings), seeds, backend)
    try:
        yield env
    finally:
        env.close()


def actions_for(env: VectorEnv, rng: np.random.Generator) -> np.ndarray:
    if isinstance(env.action_space, spaces.Discrete):
        return rng.integers(env.action_space.n, size=(env.num_envs, 1))
    return rng.uniform(-1, 1, size=(env.num_envs, *env.action_space.shape)).astype(np.float32)


def trajectory(env: VectorEnv, steps: int, seed: int = 0) -> np.ndarray:
    """Observations, rewards and flags of every step, under the same random actions."""
    rng, rows = np.random.default_rng(seed), [np.pad(env.reset(), ((0, 0), (0, 4)))]
    for _ in range(steps):
        step = env.step(actions_for(env, rng))
        rows.append(np.column_stack((step.observations, step.rewards, step.terminated, step.truncated, step.valid)))
    return np.stack(rows)


# --- resets ----------------------------------------------------------------------------------------------------------

BACKENDS = [
    pytest.param("CartPole-v1", "gymnasium", "sync", id="gymnasium-sync"),
    pytest.param("CartPole-v1", "gymnasium", "async", id="gymnasium-async"),
    pytest.param("CartPole-v1", "envpool", "sync", id="envpool", marks=needs_envpool),
]


@pytest.mark.parametrize(("env_id", "backend", "vectorization"), BACKENDS)
def test_the_row_after_an_end_only_resets(env_id: str, backend: str, vectorization: str) -> None:
    with made(env_id, [1, 2, 3], backend, vectorization=vectorization) as env:
        assert env.backend == backend
        first = env.reset()
        assert first.dtype == np.float64 and (np.abs(first) <= 0.05).all()
        rng, ended, ends = np.random.default_rng(0), np.zeros(3, dtype=bool), 0
        for _ in range(80):
            step = env.step(actions_for(env, rng))
            assert (step.valid == ~ended).all()
            assert (step.rewards == step.valid).all()  # CartPole pays 1 per step, a reset 0
            assert not (step.terminated | step.truncated)[~step.valid].any()
            assert (np.abs(step.observations[~step.valid]) <= 0.05).all()  # the first of a new episode
            ended = step.terminated | step.truncated
            angles = np.abs(step.observations[step.terminated, 2])
            assert (angles > 0.2).all()  # the real final observation, not the next episode's first one
            ends += int(ended.sum())
        assert ends > 5


@needs_envpool
def test_backends_flag_a_time_limit_as_truncation() -> None:
    for backend in ("envpool", "gymnasium"):
        with made("Pendulum-v1", [4, 5], backend) as env:
            env.reset()
            for number in range(1, 203):
                step = env.step(np.zeros((2, 1), dtype=np.float32))
                assert not step.terminated.any()
                assert step.truncated.all() == step.truncated.any() == (number == 200)
                assert step.valid.all() == step.valid.any() == (number != 201)


def test_a_second_reset_starts_new_episodes() -> None:
    with made("CartPole-v1", [1, 2]) as env:
        first = env.reset()
        while not (step := env.step(np.zeros((2, 1), dtype=np.int64))).terminated.any():
            pass
        second = env.reset()
        assert (first != second).any()
        step = env.step(np.zeros((2, 1), dtype=np.int64))
        assert step.valid.all()


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_no_two_environments_runs_processes_or_purposes_share_a_seed() -> None:
    seeds = [
        seed
        for run, process, purpose in itertools.product(range(5), range(4), (TRAINING, EVALUATION))
        for seed in environment_seeds(run, 64 * process, 64, purpose)
    ]
    assert len(set(seeds)) == len(seeds) == 5 * 4 * 2 * 64
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_seeds_do_not_depend_on_the_number_of_environments_and_processes() -> None:
    assert environment_seeds(3, 8, 56) == environment_seeds(3, 0, 64)[8:]


@pytest.mark.parametrize(("env_id", "backend", "vectorization"), BACKENDS)
def test_same_seeds_same_trajectory(env_id: str, backend: str, vectorization: str) -> None:
    runs = []
    for seeds in ([7, 8], [7, 8], [8, 9]):
        with made(env_id, seeds, backend, vectorization=vectorization) as env:
            runs.append(trajectory(env, 40))
    assert (runs[0] == runs[1]).all()
    assert (runs[0][0] != runs[2][0]).any()
    assert (runs[0][0, 1] == runs[2][0, 0]).all()  # seed 8, whatever its place


def test_sync_and_async_are_the_same_environments() -> None:
    runs = []
    for vectorization in ("sync", "async"):
        with made("Pendulum-v1", [7, 8], vectorization=vectorization) as env:
            runs.append(trajectory(env, 30))
    assert (runs[0] == runs[1]).all()


@needs_envpool
def test_envpool_keeps_environments_in_their_places_whatever_the_threads() -> None:
    seeds = [11, 12, 13, 14, 15, 16]
    with made("Hopper-v5", seeds, "envpool", num_threads=2) as env:
        threaded = trajectory(env, 60)
    with made("Hopper-v5", seeds, "envpool", num_threads=1) as env:
        single = trajectory(env, 60)
    assert (threaded == single).all()
    for index in (0, 5):
        with made("Hopper-v5", [seeds[index]], "envpool") as env:
            assert (env.reset()[0] == threaded[0, index, :-4]).all()


@needs_envpool
@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "CartPole-v1", "MountainCarContinuous-v0"])
def test_the_direct_line_to_envpool_says_what_its_own_methods_say(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for line in (envpool_backend.DirectLine, envpool_backend.PublicLine):
        monkeypatch.setattr(envpool_backend.DirectLine, "fits", lambda _pool, line=line: line.__name__ == "DirectLine")
        with made(env_id, [5, 6, 7], "envpool") as env:
            assert all(isinstance(group._line, line) for _, group in env.groups)
            runs.append(trajectory(env, 250))
    assert (runs[0] == runs[1]).all()
    assert (runs[0][1:, :, -1] == 0).any() or env_id in ("HalfCheetah-v5", "MountainCarContinuous-v0")


@needs_envpool
def test_observations_in_parts_take_envpools_own_methods() -> None:
    with made("HopperHop-v1", [1, 2], "envpool") as env:
        assert all(isinstance(group._line, envpool_backend.PublicLine) for _, group in env.groups)
        assert env.step(actions_for(env, np.random.default_rng(0))).observations.shape == (2, 15)


# --- observations ----------------------------------------------------------------------------------------------------

OBSERVATIONS = [
    (spaces.Box(-1, 1, (3,)), np.array([[0.5, -0.5, 1.0], [0, 0, 0]]), [[0.5, -0.5, 1], [0, 0, 0]]),
    (spaces.Discrete(3), np.array([2, 0]), [[0, 0, 1], [1, 0, 0]]),
    (spaces.Discrete(3, start=-1), np.array([-1, 1]), [[1, 0, 0], [0, 0, 1]]),
    (spaces.MultiDiscrete([2, 3]), np.array([[1, 0], [0, 2]]), [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
    (spaces.MultiDiscrete([2, 2], start=[5, 0]), np.array([[5, 1], [6, 0]]), [[1, 0, 0, 1], [0, 1, 1, 0]]),
    (spaces.MultiBinary(3), np.array([[1, 0, 1], [0, 0, 1]], dtype=np.int8), [[1, 0, 1], [0, 0, 1]]),
    (
        spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (1,)))),
        (np.array([1, 0]), np.array([[0.5], [-0.5]])),
        [[0, 1, 0.5], [1, 0, -0.5]],
    ),
    (
        spaces.Dict(b=spaces.Box(-1, 1, (1,)), a=spaces.Dict(c=spaces.Discrete(2))),
        {"a": {"c": np.array([0, 1])}, "b": np.array([[0.5], [0.25]])},
        [[0.5, 1, 0], [0.25, 0, 1]],
    ),
]


@pytest.mark.parametrize(("space", "batch", "expected"), OBSERVATIONS, ids=lambda value: type(value).__name__)
def test_observations_become_flat_vectors(space: spaces.Space, batch: object, expected: list[list[float]]) -> None:
    layout, encode = row_encoder(space)
    encoded = encode(batch)
    assert encoded.tolist() == expected
    assert encoded.dtype == np.float64 and (layout.vector_size, layout.images) == (len(expected[0]), ())


def test_images_without_a_vector_become_bytes_side_by_side() -> None:
    space = spaces.Dict(a=spaces.Box(0, 255, (1, 2), np.uint8), b=spaces.Tuple([spaces.Box(0, 255, (1, 1), np.uint8)]))
    layout, encode = row_encoder(space)
    batch = {"a": np.array([[[1, 2]], [[3, 4]]], np.uint8), "b": (np.array([[[5]], [[6]]], np.uint8),)}
    rows = encode(batch)
    assert rows.tolist() == [[1, 2, 5], [3, 4, 6]] and layout.vector_of(rows).shape == (2, 0)


def test_an_image_beyond_its_bounds_is_clipped_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    _, encode = row_encoder(spaces.Box(0.0, 1.0, (9, 9), np.float32))
    image = np.full((1, 9, 9), 0.5)
    image[0, 0, 0] = 1.001  # the same byte as 1
    assert encode(image).reshape(-1)[:2].tolist() == [255, 128] and not caplog.messages
    image[0, 0, :2] = -3.0, 7.0
    for _ in range(2):
        assert encode(image).reshape(-1)[:3].tolist() == [0, 255, 128]
    (told,) = caplog.messages
    assert "holds -3.0, beyond the bounds of its space, and is clipped there" in told


@pytest.mark.parametrize(
    ("space", "vectorization"), [*((case[0], "sync") for case in OBSERVATIONS), (OBSERVATIONS[-1][0], "async")], ids=str
)
def test_every_observation_space_passes_a_vector_environment(space: spaces.Space, vectorization: str) -> None:
    kwargs = {"observation_space": space, "action_space": spaces.Discrete(2)}
    with made("probe/AnySpace-v0", [1, 2], kwargs=kwargs, vectorization=vectorization) as env:
        first, step = env.reset(), env.step(np.zeros((2, 1), dtype=np.int64))
    for observations in (first, step.observations):
        assert observations.shape == (2, env.layout.vector_size)
        assert spaces.flatdim(space) == env.layout.vector_size


# --- actions ---------------------------------------------------------------------------------------------------------


def test_box_actions_are_mapped_onto_their_range_and_clipped() -> None:
    decode = action_decoder(spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64), ActionMapping())
    assert decode(np.array([[-1.0, -1.0], [0.0, 0.0], [0.5, 1.0], [-9.0, 9.0]])).tolist() == [
        [-2.0, 0.0], [0.0, 5.0], [1.0, 10.0], [-2.0, 10.0],
    ]  # fmt: skip


def test_box_actions_without_rescaling_are_only_clipped() -> None:
    decode = action_decoder(
        spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64), ActionMapping(rescale=False)
    )
    assert decode(np.array([[-1.0, -1.0], [0.5, 3.0], [9.0, 99.0]])).tolist() == [[-1.0, 0.0], [0.5, 3.0], [2.0, 10.0]]


@pytest.mark.parametrize(("squash", "third"), [(False, [1.0, 3.0]), (True, [1.0, 1 + 2 * math.tanh(1.0)])])
def test_unbounded_components_are_left_alone(squash: bool, third: list[float]) -> None:
    space = spaces.Box(np.array([-np.inf, 0.0, -1.0]), np.array([np.inf, np.inf, 3.0]), dtype=np.float64)
    decode = action_decoder(space, ActionMapping(squash=squash))
    expected = [[100.0, 0.0, third[0]], [-7.0, 5.0, third[1]]]
    assert decode(np.array([[100.0, -5.0, 0.0], [-7.0, 5.0, 1.0]])).tolist() == expected


def test_squashed_actions_come_near_the_bounds_and_not_beyond() -> None:
    decode = action_decoder(spaces.Box(-2.0, 2.0, (1,), dtype=np.float64), ActionMapping(squash=True))
    decoded = decode(np.array([[-3.0], [0.0], [0.5], [3.0]]))[:, 0]
    assert decoded.tolist() == [2 * math.tanh(value) for value in (-3.0, 0.0, 0.5, 3.0)]


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Discrete(3), [[0], [2]], [0, 2]),
        (spaces.Discrete(3, start=5), [[0], [2]], [5, 7]),
        (spaces.MultiDiscrete([2, 3]), [[1, 0], [0, 2]], [[1, 0], [0, 2]]),
        (spaces.MultiDiscrete([2, 3], start=[10, -1]), [[1, 0], [0, 2]], [[11, -1], [10, 1]]),
        (spaces.MultiBinary(2), [[1, 0], [0, 1]], [[1, 0], [0, 1]]),
    ],
    ids=str,
)
def test_discrete_actions_are_shifted_by_their_start(space: spaces.Space, actions: list, expected: list) -> None:
    decoded = action_decoder(space, ActionMapping())(np.array(actions))
    assert decoded.tolist() == expected
    assert decoded.dtype == space.dtype


PARTS = spaces.Dict(
    arm=spaces.Tuple((spaces.Box(-2, 2, (2,)), spaces.Discrete(3, start=5))),
    lamps=spaces.MultiBinary(2),
    buttons=spaces.MultiDiscrete([2, 4], start=[0, -1]),
    zoom=spaces.Box(0, 10, (), np.float64),
)


def test_a_row_becomes_the_parts_of_an_action() -> None:
    """Columns: the choices of arm.1 and of buttons, then lamps, then the numbers of arm.0 and zoom."""
    decode = action_decoder(PARTS, ActionMapping())
    rows = np.array([[2, 1, 3, 1, 0, 0.5, -9.0, 0.0], [0, 0, 0, 0, 1, 0.0, 0.25, -1.0]], dtype=np.float32)
    actions = decode(rows)
    assert actions["arm"][0].tolist() == [[1.0, -2.0], [0.0, 0.5]]
    assert actions["arm"][1].tolist() == [7, 5]
    assert actions["buttons"].tolist() == [[1, 2], [0, -1]]
    assert actions["lamps"].tolist() == [[1, 0], [0, 1]]
    assert actions["zoom"].tolist() == [5.0, 0.0]
    assert PARTS.contains(first_action(actions, PARTS))
    assert batch_space(PARTS, 2).contains(actions)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_drawn_actions_of_several_parts_pass_a_vector_environment(vectorization: str) -> None:
    space = spaces.Dict({key: part for key, part in PARTS.spaces.items() if key != "zoom"})
    family = action_distribution(space)
    kwargs = {"observation_space": spaces.Box(-1, 1, (1,)), "action_space": space}
    with made("probe/AnySpace-v0", [1, 2, 3], kwargs=kwargs, vectorization=vectorization) as env:
        env.reset()
        generator = torch.Generator().manual_seed(0)
        for _ in range(10):
            actions = family.sample(torch.zeros(3, family.parameter_size), family.noise((3,), generator))
            assert env.step(actions.numpy()).valid.any()  # the environment raises on an action outside its space


@pytest.mark.parametrize(("squash", "reach"), [(False, 1.0), (True, math.inf)])
def test_the_numbers_of_a_row_have_bounds(squash: bool, reach: float) -> None:
    low, high = policy_bounds(
        spaces.Dict(PARTS.spaces | {"far": spaces.Box(-np.inf, 7, (1,))}), ActionMapping(squash=squash)
    )
    assert high.tolist() == [reach, reach, 7.0, reach]  # arm.0, far, zoom
    assert low.tolist() == [-reach, -reach, -math.inf, -reach]
    assert policy_bounds(spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))), ActionMapping()) is None


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 3, (2, 2)),
        spaces.Box(-2, 3, ()),
        spaces.Discrete(3, start=5),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
    ],
    ids=str,
)
def test_every_decoded_action_lies_in_its_space(space: spaces.Space) -> None:
    shape = action_distribution(space).action_shape
    kwargs = {"observation_space": spaces.Box(-1, 1, (1,)), "action_space": space}
    with made("probe/AnySpace-v0", [1, 2, 3], kwargs=kwargs) as env:
        env.reset()
        for _ in range(10):
            if isinstance(space, spaces.Box):
                actions = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32) * 3
            else:
                actions = np.ones((3, *shape), dtype=np.int64)
            assert env.step(actions).valid.any()  # the environment raises on an action outside its space


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation_space", "action_space", "words"),
    [
        (spaces.Text(5), spaces.Discrete(2), r"observation space Text.* is not supported"),
        (spaces.Box(-1, 1, (2,)), spaces.Text(5), r"action space Text.* is not supported"),
        (
            spaces.Box(-1, 1, (2,)),
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))),
            r"the part b\.1 of the action space, Text.*, is not supported",
        ),
        (
            spaces.Box(-1, 1, (2,)),
            spaces.Tuple((spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1))),)),
            r"the part 0 of the action space, OneOf.*, is not supported",
        ),
        (spaces.Box(-1, 1, (2,)), spaces.Tuple(()), r"the action space Tuple\(\) has no parts"),
        (spaces.Box(-1, 1, (2,)), spaces.MultiBinary((2, 2)), r"action space MultiBinary.* is not supported"),
    ],
)
def test_unsupported_spaces_are_refused_by_name(observation_space, action_space, words: str) -> None:
    kwargs = {"observation_space": observation_space, "action_space": action_space}
    env = EnvConfig(id="probe/AnySpace-v0", kwargs=kwargs)
    with pytest.raises(ConfigError, match=rf"env\.id=probe/AnySpace-v0: .*{words}.*supported (observations|actions): "):
        check_environment(env)
    with pytest.raises(ConfigError, match=words):
        make_vector_env(env, [1], "gymnasium")


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (0,)), spaces.Dict({})])
def test_an_observation_without_numbers_is_refused(space: spaces.Space[Any]) -> None:
    env = EnvConfig(id="probe/AnySpace-v0", kwargs={"observation_space": space, "action_space": spaces.Discrete(2)})
    with pytest.raises(ConfigError, match=r"env\.id=probe/AnySpace-v0: the observation space .* has no numbers"):
        check_environment(env)


def test_an_image_without_pixels_is_refused() -> None:
    picture = spaces.Dict(camera=spaces.Box(0, 255, (0, 84, 84), np.uint8))
    env = EnvConfig(id="probe/AnySpace-v0", kwargs={"observation_space": picture, "action_space": spaces.Discrete(2)})
    with pytest.raises(ConfigError) as refused:
        check_environment(env)
    assert str(refused.value) == (
        "env.id=probe/AnySpace-v0: camera (0, 84, 84) is an image without pixels; its sides and its channels must be 1 "
        "or more, so change the environment or its arguments in env.kwargs"
    )


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"env\.id=Hoper-v5: .*did you mean 'Hopper-v5'"):
        check_environment(EnvConfig(id="Hoper-v5"))


def test_an_id_in_a_module_that_is_not_there_names_the_module() -> None:
    with pytest.raises(ConfigError, match=r"the module 'no_such_module' cannot be imported"):
        check_environment(EnvConfig(id="no_such_module:Env-v0"))


def test_an_unknown_id_of_a_module_names_those_of_the_module() -> None:
    with pytest.raises(ConfigError, match=r"environment; did you mean 'probe_envs:probe/Faulty-v0'\?$"):
        check_environment(EnvConfig(id="probe_envs:Faulty-v0"))
    with pytest.raises(ConfigError, match=r"environment; probe_envs has probe_envs:probe/\w+-v0, .* and others$"):
        check_environment(EnvConfig(id="probe_envs:CartPole-v7"))


@needs_envpool
def test_the_name_of_a_family_before_an_id_does_not_hide_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"registered environment; did you mean 'Coinrun\w+-v0'\?$"):
        check_environment(EnvConfig(id="Procgen/Coinrun"))


def test_an_id_in_a_module_of_ones_own_is_found() -> None:
    env = EnvConfig(id="probe_envs:probe/Diary-v0", kwargs={"lengths": [2]})
    check_environment(env)
    assert choose_backend(env) == "gymnasium"
    with made(env.id, [1], kwargs=env.kwargs) as vector_env:
        assert vector_env.reset().tolist() == [[0, 0, -1]]


def test_wrong_arguments_name_the_constructor_s_complaint() -> None:
    with pytest.raises(ConfigError, match=r"'red'\}: cannot be made: TypeError: .*; leave out env\.kwargs\.colour$"):
        check_environment(EnvConfig(id="probe/Diary-v0", kwargs={"colour": "red"}))


# --- environments that misbehave -------------------------------------------------------------------------------------

FAULTS = [
    ("raise", r"environment 1 raised at its step 3: RuntimeError: the simulator is on fire"),
    ("nan observation", r"environment 1 returned a non-finite observation at its step 3"),
    ("infinite observation", r"environment 1 returned a non-finite observation at its step 3"),
    ("nan reward", r"environment 1 returned a non-finite reward at its step 3"),
    ("wrong shape", r"environment 1 returned an observation of shape \(3,\) at its step 3.*says \(2,\)"),
    ("leave", r"environment 1 raised at its step 3: SystemExit: 0"),
]


def provoke(env: VectorEnv) -> None:
    env.reset()
    for actions in ([0, 0, 0], [0, 0, 0], [0, 1, 0]):
        env.step(np.array(actions)[:, None])


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_fault_names_the_environment_and_the_step(fault: str, words: str) -> None:
    with (
        made("probe/Faulty-v0", [1, 2, 3], kwargs={"fault": fault}) as env,
        pytest.raises(EnvError, match=rf"probe/Faulty-v0: {words}"),
    ):
        provoke(env)


@pytest.mark.parametrize(
    ("space", "observation", "words"),
    [
        (
            spaces.Dict(eye=spaces.Box(-1.0, 1.0, (9, 10))),
            {"eye": np.full((9, 10), np.nan, np.float32)},
            "environment 0, at its step 1: an image, eye (1, 9, 10), holds nan; its numbers must be finite",
        ),
        (spaces.Discrete(3), 3, "environment 0, at its step 1: a discrete observation lies outside its space: [3]"),
        (
            spaces.Box(-1.0, 1.0, (100,)),
            np.r_[np.zeros(70, np.float32), np.inf],
            "environment 0 returned an observation of shape (71,) at its step 1, but its observation space says (100,)",
        ),
        (
            spaces.Box(-1.0, 1.0, (100,)),
            np.r_[np.zeros(99, np.float32), np.float32(np.inf)],
            "environment 0 returned a non-finite observation at its step 1: inf",
        ),
    ],
)
def test_an_observation_that_is_none_names_the_environment_in_one_line(
    space: spaces.Space[Any], observation: Any, words: str
) -> None:
    kwargs = {"observation_space": space, "observation": observation}
    with made("probe/Returns-v0", [1], kwargs=kwargs) as env:
        env.reset()
        with pytest.raises(EnvError) as raised:
            env.step(np.zeros((1, 1)))
    assert str(raised.value) == f"probe/Returns-v0: {words}"


class Brief(gymnasium.Env[Any, Any]):
    """Three steps long; action 1 gives no number."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 3
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.zeros(2, np.float32), np.nan if action else 0.0, self._left == 0, False, {}


gymnasium.register("test_envs/Brief-v0", Brief)


@pytest.mark.parametrize("written_as", ["an array", "one number, as by earlier versions"])
def test_steps_are_the_environment_s_own_without_those_that_only_reset(written_as: str) -> None:
    def said(env: VectorEnv) -> str:
        with pytest.raises(EnvError) as raised:
            env.step(np.array([[0], [1]]))
        return str(raised.value)

    with made("test_envs/Brief-v0", [1, 2]) as env, made("test_envs/Brief-v0", [1, 2]) as restored:
        env.reset()
        for _ in range(8):  # six steps, and two that only reset
            env.step(np.zeros((2, 1)))
        state = env.state()
        assert state is not None
        assert said(env) == "test_envs/Brief-v0: environment 1 returned a non-finite reward at its step 7: nan"
        restored.reset()
        restored.restore(state if written_as == "an array" else {**state, "steps": 6})
        assert said(restored) == "test_envs/Brief-v0: environment 1 returned a non-finite reward at its step 7: nan"


@pytest.mark.filterwarnings("ignore:.*ERROR. ")  # Gymnasium warns of the fault before it raises
@pytest.mark.parametrize(
    ("fault", "words"),
    [FAULTS[0], FAULTS[4], FAULTS[5], ("vanish", r"the process of environment 1 is gone \(exit code 3\)")],
)
def test_a_fault_in_another_process_names_the_environment_and_the_step(fault: str, words: str) -> None:
    with (
        made("probe/Faulty-v0", [1, 2, 3], kwargs={"fault": fault}, vectorization="async") as env,
        pytest.raises(EnvError, match=rf"probe/Faulty-v0: {words}"),
    ):
        provoke(env)


def test_a_fault_at_the_reset_is_named() -> None:
    with (
        made("probe/Faulty-v0", [1, 2], kwargs={"fault": "raise at reset"}) as env,
        pytest.raises(EnvError, match=r"environment 0 raised at a reset after 0 steps: RuntimeError"),
    ):
        env.reset()


# --- choice of the backend -------------------------------------------------------------------------------------------


@needs_envpool
def test_auto_takes_envpool_where_it_has_the_id() -> None:
    assert choose_backend(EnvConfig(id="Hopper-v5")) == "envpool"
    assert choose_backend(EnvConfig(id="Hopper-v5", backend="gymnasium")) == "gymnasium"
    assert choose_backend(EnvConfig(id="probe/Diary-v0")) == "gymnasium"


@needs_envpool
def test_auto_takes_gymnasium_for_arguments_that_envpool_may_not_know() -> None:
    assert choose_backend(EnvConfig(id="Hopper-v5", kwargs={"forward_reward_weight": 2.0})) == "gymnasium"


@needs_envpool
def test_envpool_for_an_id_it_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.backend=envpool: EnvPool has no probe/Diary-v0"):
        check_environment(EnvConfig(id="probe/Diary-v0", backend="envpool"))


@needs_envpool
def test_envpool_refuses_arguments_it_does_not_know() -> None:
    env = EnvConfig(id="Hopper-v5", backend="envpool", kwargs={"colour": "red"})
    with pytest.raises(ConfigError, match=r"env\.kwargs=\{'colour': 'red'\}: EnvPool does not take these"):
        make_vector_env(env, [1], "envpool")


def test_without_envpool_auto_uses_gymnasium_and_envpool_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envpool_ids, "is_installed", lambda: False)
    assert choose_backend(EnvConfig(id="Hopper-v5")) == "gymnasium"
    check_environment(EnvConfig(id="Hopper-v5"))
    with pytest.raises(ConfigError, match=r"env\.backend=envpool: the package envpool is not installed.*or use auto"):
        check_environment(EnvConfig(id="Hopper-v5", backend="envpool"))


def test_is_installed_asks_the_import_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not envpool_ids.is_installed()
    assert not envpool_ids.has("Hopper-v5")


def test_the_probes_are_registered() -> None:
    assert "probe/Endless-v0" in gymnasium.registry


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory")
def test_environments_that_restart_again_and_again_take_no_more_memory() -> None:
    """In a process of its own, which has freed nothing yet."""
    code = (
        "from ppolab.envs.envpool_backend import EnvPoolEnv\nfrom ppolab.envs.spaces import ActionMapping\n"
        "def pages(): return int(open('/proc/self/statm').read().split()[1])\n"
        "env = EnvPoolEnv('Hopper-v5', {}, list(range(128)), num_threads=1, mapping=ActionMapping())\n"
        "env.reset(); before = pages()\n"
        "for _ in range(5): env.restart(list(range(128))); env.reset()\n"
        "print(pages() / before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=with_src())
    assert float(done.stdout) < 1.15


def with_src() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")}


# --- new episodes in some of the environments ------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "vectorization", "num_threads"), [
    pytest.param("envpool", "sync", 2, marks=needs_envpool), ("gymnasium", "sync", 1), ("gymnasium", "async", 1),
])  # fmt: skip
@pytest.mark.parametrize("ended", [False, True])
def test_some_begin_new_episodes_and_the_others_go_on(
    backend: str, vectorization: str, num_threads: int, ended: bool
) -> None:
    """Pendulum's episodes have 200 steps; after the last of them the next one would only reset."""
    which = np.array([True, False, True, False])
    settings = {"vectorization": vectorization, "num_threads": num_threads}
    with made("Pendulum-v1", [1, 2, 3, 4], backend, **settings) as env:
        env.reset()
        actions = np.zeros((4, 1), dtype=np.float32)
        for _ in range(200 if ended else 7):
            last = env.step(actions).observations
        first = env.reset_some(which)
        assert first.shape == (2, 3) and (first != last[which]).all()
        step = env.step(actions)
        assert step.valid.tolist() == [True, not ended, True, not ended]
        for _ in range(192):
            step = env.step(actions)
        assert step.truncated.tolist() == [False, not ended, False, not ended]
        for _ in range(7):
            step = env.step(actions)
        assert step.truncated.tolist() == [True, False, True, False]
