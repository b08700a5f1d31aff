"""Masks of the allowed actions: where they are found, and what is said about those that are none."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import probe_envs
import pytest
from gymnasium import spaces
from helpers import tiny_config

from ppolab.config.schema import EnvConfig
from ppolab.envs.action_masks import chosen_space, flags_of, network_space, note_on_masks, note_on_other_name
from ppolab.envs.choices import Combinations
from ppolab.envs.factory import environment_spaces, make_vector_env
from ppolab.envs.guarded import Guarded
from ppolab.envs.vector_env import VectorEnv
from ppolab.errors import ConfigError, EnvError

PLACES = ("observation", "info", "method")


def made(backend: str = "gymnasium", seeds: int = 2, **settings: Any) -> VectorEnv:
    return make_vector_env(
        EnvConfig(**{"id": "probe/Allowed-v0", "num_threads": 1} | settings), [*range(seeds)], backend
    )


def first_allowed(env: VectorEnv, sizes: list[int]) -> np.ndarray[Any, Any]:
    assert env.masks is not None
    parts = np.split(env.masks, np.cumsum(sizes)[:-1], axis=1)
    return np.stack([part.argmax(axis=1) for part in parts], axis=1)


@pytest.mark.parametrize("sizes", [[5], [3, 4]], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_a_mask_is_found_and_follows_the_steps(place: str, sizes: list[int]) -> None:
    told = {"observation": "observation['action_mask']", "info": "info['action_mask']"}
    with closing(made(kwargs={"place": place, "sizes": sizes})) as env:
        assert env.reset().shape == (2, 2)  # the mask is no input
        assert env.mask_source == told.get(place, "the method action_masks()")
        seen = []
        for _ in range(20):  # the environment raises where an action is not allowed
            masks = env.masks
            assert masks is not None and masks.shape == (2, sum(sizes)) and masks.dtype == np.bool_
            seen.append(masks)
            env.step(first_allowed(env, sizes))
    assert len({masks.tobytes() for masks in seen}) > 10
    assert seen[0].sum() == 4 * len(sizes)  # two values of each component
    assert seen[6].all()  # after an episode's last step, where the environment allows nothing


@pytest.mark.parametrize("place", PLACES)
def test_a_box_of_few_whole_numbers_has_a_mask_per_component(place: str) -> None:
    with closing(made(kwargs={"place": place, "sizes": [3, 4], "lowest": -1})) as env:
        env.reset()
        for _ in range(8):  # the environment raises where an action is not allowed
            env.step(first_allowed(env, [3, 4]))
        assert env.masks is not None and env.masks.shape == (2, 7)


@pytest.mark.parametrize("lowest", [None, 5])
def test_a_mask_over_combinations_is_found_and_follows_the_steps(lowest: int | None) -> None:
    with closing(made(kwargs={"place": "observation", "sizes": [3, 4], "combined": True, "lowest": lowest})) as env:
        assert env.reset().shape == (2, 2)
        assert isinstance(env.policy_space, Combinations) and env.policy_space.n == 12
        for _ in range(8):
            assert env.masks is not None and env.masks.shape == (2, 12)
            env.step(first_allowed(env, [12]))
        note = note_on_masks(env.env_id, env.mask_source, env.masks, env.policy_space)
    assert note is not None and note.endswith(
        "by the mask in observation['action_mask'], which is over combinations: an action is one of 12"
    )


@pytest.mark.parametrize(
    ("sizes", "mask", "combined"),
    [
        ([3, 4], (3, 4), True), ([3, 4], (12,), True), ([3, 4], (7,), False), ([4, 4, 4], (3, 4), False),
        ([2, 2], (2, 2), False), ([1, 2, 3], (6,), False),  # where both would fit, it is per component
        ([25, 4, 9, 9], (25, 4, 9, 9), True), ([6], (6,), False),
    ],
)  # fmt: skip
def test_the_size_of_a_mask_tells_what_it_is_of(sizes: list[int], mask: tuple[int, ...], combined: bool) -> None:
    seen = spaces.Dict(action_mask=spaces.MultiBinary(mask), seen=probe_envs.box(1))
    low = np.zeros(len(sizes), np.int32)
    for actions in (spaces.MultiDiscrete(sizes), spaces.Box(low, low + sizes - 1, dtype=np.int32)):
        assert isinstance(chosen_space(seen, actions), Combinations) == combined
        assert list(network_space(seen, actions)) == ["seen"]


def test_combinations_that_do_not_fit_are_told() -> None:
    seen = spaces.Dict(action_mask=spaces.MultiBinary((3, 3)), seen=probe_envs.box(1))
    with pytest.raises(ConfigError, match=r"has 7, or 12 for every combination; mend the environment, or set env.act"):
        network_space(seen, spaces.MultiDiscrete([3, 4]))
    env = Guarded(probe_envs.Allowed("info", [3, 4], combined=True), "mine", 0, masked=True)
    with pytest.raises(
        EnvError, match=r"of 12 numbers, and a mask of MultiDiscrete\(\[3 4\]\) has 7; one over comb.*, at"
    ):
        env.reset()


def test_masks_are_those_of_the_environment() -> None:
    with closing(made(kwargs={"place": "info"}, seeds=1)) as env:
        env.reset()
        inner = env._envs.envs[0].unwrapped  # type: ignore[attr-defined]
        for _ in range(5):
            assert env.masks is not None and env.masks[0].tolist() == (inner.mask != 0).tolist()
            env.step(first_allowed(env, [5]))


def test_a_reset_of_some_changes_their_masks_only() -> None:
    with closing(made(kwargs={"place": "info"}, seeds=3)) as env:
        env.reset()
        before = env.masks
        for _ in range(5):
            env.reset_some(np.array([False, True, False]))
        after = env.masks
    assert before is not None and after is not None
    assert (before[[0, 2]] == after[[0, 2]]).all() and (before[1] != after[1]).any()


@pytest.mark.parametrize("place", PLACES)
def test_off_looks_for_no_mask(place: str) -> None:
    with closing(made(kwargs={"place": place}, action_mask="off")) as env:
        rows = env.reset()
        assert env.masks is None and env.mask_source == ""
    assert rows.shape == (2, 7 if place == "observation" else 2)  # then it is an input, as any other entry


@pytest.mark.parametrize("place", PLACES)
def test_a_mask_that_allows_nothing_is_told_with_environment_and_step(place: str) -> None:
    with closing(made(kwargs={"place": place, "fault": "none"})) as env:
        env.reset()
        with pytest.raises(EnvError) as raised:
            for _ in range(3):
                env.step(first_allowed(env, [5]))
    assert str(raised.value) == (
        "probe/Allowed-v0: environment 0 allows no action after its step 3; mend the environment, or set "
        "env.action_mask=off"
    )


def test_a_component_without_a_value_is_told() -> None:
    with closing(made(kwargs={"place": "info", "sizes": [2, 2], "fault": "none"})) as env:
        env.reset()
        with pytest.raises(EnvError, match="environment 0 allows no value of one component of the action after its"):
            for _ in range(3):
                env.step(first_allowed(env, [2, 2]))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("size", "gave {source} of 4 numbers, and a mask of Discrete(5) has 5"),
        ("gone", "gave no mask in {source}"),
        ("logits", "gave {source} with -inf; a mask has 1 for what is allowed and 0 for what is not"),
    ],
)
@pytest.mark.parametrize(
    ("place", "source"), [("info", "info['action_mask']"), ("method", "the method action_masks()")]
)
def test_a_mask_of_a_wrong_size_is_told_with_environment_and_step(
    fault: str, told: str, place: str, source: str
) -> None:
    env = Guarded(probe_envs.Allowed(place, fault=fault), "mine", 3, masked=True)
    env.reset(seed=0)
    with pytest.raises(EnvError) as raised:
        for _ in range(3):
            env.step(int(env.unwrapped.mask.argmax()))
    assert str(raised.value) == (
        f"mine: environment 3 {told.format(source=source)}, at its step 3; mend the environment, or set "
        "env.action_mask=off"
    )


def test_a_mask_that_only_steps_give_and_one_that_is_no_method_are_told() -> None:
    late = Guarded(probe_envs.Allowed("info", fault="late"), "mine", 3, masked=True)
    late.reset(seed=0)
    with pytest.raises(EnvError) as raised:
        late.step(int(late.unwrapped.mask.argmax()))
    assert str(raised.value) == (
        "mine: environment 3, at its step 1, gave info['action_mask'] and none at the reset; give it at every reset, "
        "too, or set env.action_mask=off"
    )
    env = probe_envs.Allowed("nowhere")
    env.action_masks = np.ones(5)
    with pytest.raises(
        EnvError, match="has action_masks, which is no method; make it one without arguments, or set env"
    ):
        Guarded(env, "mine", 3, masked=True).reset(seed=0)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (([1, 0], [1, 1, 0]), r"in parts of \[2, 3\] numbers, and the components have \[3, 2\] values"),
        ([1, 0, float("nan"), 1, 1], "with nan; a mask has 1 for what is allowed and 0 for what is not"),
        ([1, 0, -1, 1, 1], "with -1; a mask has 1"),
    ],
)
def test_what_is_no_mask_of_the_components_is_told(mask: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        flags_of(mask, spaces.MultiDiscrete([3, 2]))
    assert flags_of(([1, 0, 1], [1, 1]), spaces.MultiDiscrete([3, 2])).sum() == 4


def test_a_method_that_raises_is_told() -> None:
    inner = probe_envs.Allowed("method")
    inner.action_masks = lambda: 1 / 0
    with pytest.raises(EnvError, match=r"environment 0 raised in action_masks\(\) after its step 0: ZeroDivisionError"):
        Guarded(inner, "mine", 0, masked=True).reset(seed=0)


def test_a_wrong_size_in_the_observation_is_told_before_anything_is_stepped() -> None:
    space = spaces.Dict(action_mask=spaces.MultiBinary(4), seen=probe_envs.box(2))
    env = EnvConfig("probe/AnySpace-v0", kwargs={"observation_space": space, "action_space": spaces.Discrete(5)})
    with pytest.raises(ConfigError) as raised:
        environment_spaces(env)
    assert str(raised.value) == (
        "env.action_mask=auto: observation['action_mask'] is MultiBinary(4), and a mask of Discrete(5) has 5; mend the "
        "environment, or set env.action_mask=off"
    )
    env.action_mask = "off"
    assert environment_spaces(env)[0] == space


def test_an_observation_that_is_only_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds action_mask alone, which is no input of a network; add what"):
        network_space(spaces.Dict(action_mask=spaces.MultiBinary(5)), spaces.Discrete(5))


@pytest.mark.parametrize("place", ["observation", "info"])
def test_a_mask_for_numbers_is_said_and_not_used(place: str) -> None:
    mask, seen = spaces.MultiBinary(2), probe_envs.box(1)
    space = spaces.Dict(action_mask=mask, seen=seen) if place == "observation" else seen
    inner = probe_envs.AnySpace(space, spaces.Box(-1, 1, (2,)))
    if place == "info":
        reset = inner.reset
        inner.reset = lambda **given: (reset(**given)[0], {"action_mask": np.ones(2)})  # type: ignore[method-assign]
    env = Guarded(inner, "mine", 0, masked=True)
    _, info = env.reset(seed=0)
    assert info == {} and network_space(space, env.action_space) is space
    source = env.mask_found() if place == "info" else "observation['action_mask']"
    note = note_on_masks("mine", source, None, env.action_space)
    assert note == (
        f"mine: the mask in {place}['action_mask'] is not used, since the actions are Box(-1.0, 1.0, (2,), float32); "
        "masks are for Discrete and MultiDiscrete actions, and for a Box of few whole numbers"
    )


def test_a_mask_may_be_numbers_of_any_kind_or_one_array_per_component() -> None:
    both = spaces.MultiDiscrete([2, 3])
    expected = [True, False, False, True, True]
    for mask in ([1, 0, 0, 1, 1], np.array([1.0, 0, 0, 2, 1]), (np.array([1, 0]), np.array([0, 1, 1], dtype=bool))):
        assert flags_of(mask, both).tolist() == expected
    assert flags_of(np.eye(2), spaces.MultiDiscrete([2, 2])).tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match=r"^of type str, and a mask of Discrete"):
        flags_of("yes", spaces.Discrete(3))


@pytest.mark.parametrize("place", ["observation", "info"])
def test_only_the_newest_mask_is_seen_of_a_stack(place: str) -> None:
    with closing(made(kwargs={"place": place}, frame_stack=3)) as env:
        assert env.reset().shape == (2, 6)
        for _ in range(8):
            assert env.masks is not None and env.masks.shape == (2, 5)
            env.step(first_allowed(env, [5]))


def test_processes_give_the_same_masks() -> None:
    found = []
    for vectorization in ("sync", "async"):
        with closing(made(kwargs={"place": "info"}, vectorization=vectorization)) as env:
            env.reset()
            masks = []
            for _ in range(8):
                masks.append(env.masks)
                env.step(first_allowed(env, [5]))
            found.append(np.stack(masks))
    assert (found[0] == found[1]).all()


# --- EnvPool ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "source", "width", "sizes"),
    [
        ("Game2048-v1", "observation['action_mask']", 16, [4]),
        ("TSP-v1", "observation['action_mask']", 81, [20]),
        ("Play2048-v1", "info['legal_action_mask']", 496, [4]),
        ("LevelBasedForaging-v0", "observation['action_mask']", 125, [6, 6]),
        ("BinPack-v2", "observation['action_mask']", 380, [800]),
    ],
)
def test_masks_of_envpool(env_id: str, source: str, width: int, sizes: list[int]) -> None:
    with closing(made("envpool", seeds=4, id=env_id)) as env, closing(
        made("envpool", seeds=4, id=env_id, action_mask="off")
    ) as unmasked:  # fmt: skip
        rows, all_rows = env.reset(), unmasked.reset()
        assert env.mask_source == source and unmasked.masks is None
        observed = sum(sizes) if source.startswith("obs") else 0
        assert rows.shape == (4, width) and all_rows.shape == (4, width + observed)
        for _ in range(60):
            masks = env.masks
            assert masks is not None and masks.shape == (4, sum(sizes)) and masks.any(axis=1).all()
            env.step(first_allowed(env, sizes))


def test_where_a_maze_is_closed_any_action_is_taken() -> None:
    with closing(made("envpool", seeds=5, id="Maze-v0")) as env:
        env.reset()
        assert env.masks is not None and env.masks.all(axis=1).tolist() == [False] * 4 + [True]  # walls on all sides
        assert env.step(first_allowed(env, [4])).terminated.tolist() == [False] * 4 + [True]


def test_nothing_is_said_where_there_is_no_mask() -> None:
    config = tiny_config("CartPole-v1")
    with closing(make_vector_env(config.env, [0], "gymnasium")) as env:
        env.reset()
        assert note_on_masks(env.env_id, env.mask_source, env.masks, env.action_space) is None


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("action_masks", 5, True),
        ("Action-Mask", 5, True),
        ("action_mask", 5, False),  # which is used
        ("action_masks", 4, False),  # of another size
        ("position", 5, False),
    ],
)
def test_a_mask_under_another_name_is_told(name: str, size: int, told: bool) -> None:
    observed = spaces.Dict({"position": spaces.Box(-1, 1, (2,)), name: spaces.MultiBinary(size)})
    note = note_on_other_name("mine", observed, spaces.Discrete(5))
    line = f"mine: observation['{name}'] is an input of the network; if it is a mask, call it action_mask"
    assert note == (line if told else None)
    assert note_on_other_name("mine", observed, spaces.Box(-1, 1, (5,))) is None
