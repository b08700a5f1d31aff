"""The environments in docs/examples, and the example that plays in one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppolab.envs.action_masks import flags_of

EXAMPLES = Path(__file__).parents[3] / "docs/examples"


@pytest.mark.parametrize(("name", "positions", "limit"), [("CartPole", [0, 2], 500), ("Pendulum", [0, 1], 200)])
def test_positions_are_those_of_the_whole_task(
    name: str, positions: list[int], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    env = gymnasium.make(f"without_velocities:{name}WithoutVelocities-v0")
    whole = gymnasium.make("CartPole-v1" if name == "CartPole" else "Pendulum-v1")
    assert env.spec is not None and env.spec.max_episode_steps == limit
    whole.action_space.seed(3)
    shown, seen = [env.reset(seed=5)[0]], [whole.reset(seed=5)[0]]
    for action in (whole.action_space.sample() for _ in range(5)):
        shown.append(env.step(action)[0])
        seen.append(whole.step(action)[0])
    assert env.observation_space.contains(shown[-1])
    np.testing.assert_array_equal(shown, np.array(seen)[:, positions])


def test_door_is_right_for_whom_remembers_and_masked_handles_move_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    env = gymnasium.make("remembered_door:RememberedDoor-v0")
    cues = set()
    for seed, remembers in ((0, True), (1, True), (2, True), (3, False)):
        first, info = env.reset(seed=seed)
        cue = int(first[-1])
        cues.add(cue)
        wrong = int(np.argmin(info["action_mask"]))
        assert env.step(wrong)[1:4] == (-0.01, False, False)
        places = []
        while len(allowed := np.flatnonzero(info["action_mask"])) == 1:
            observation, reward, terminated, _, info = env.step(int(allowed[0]))
            assert (reward, terminated) == (0.0, False)
            assert not observation[-2:].any()  # the door is shown at the first place alone
            places.append(int(np.argmax(observation)))
        assert places == [1, 2, 3, 4, 5, 6]
        reward, terminated = env.step(int(allowed[cue if remembers else 1 - cue]))[1:3]
        assert (reward, terminated) == (1.0 if remembers else -1.0, True)
    assert cues == {0, 1}


PARTS = [np.array([1, 0, 1], dtype=np.int8), np.array([0, 1], dtype=np.int8)]


@pytest.mark.parametrize("place", ["action_mask", "legal_action_mask", "observation", "method"])
@pytest.mark.parametrize("mask", [PARTS, tuple(PARTS), np.concatenate(PARTS), [1, 0, 1, 0, 1]])
def test_the_player_reads_the_masks_that_a_training_reads(
    mask: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    play_onnx = importlib.import_module("play_onnx")
    env = gymnasium.make("CartPole-v1")
    if place == "method":
        env.unwrapped.action_masks = lambda: mask  # type: ignore[attr-defined]
    observation = {"action_mask": mask} if place == "observation" else np.zeros(4)
    found = play_onnx.mask_of(observation, {place: mask} if place.endswith("mask") else {}, env)
    np.testing.assert_array_equal(found, flags_of(mask, spaces.MultiDiscrete([3, 2])))


def test_the_player_takes_the_first_place_of_a_mask_as_a_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    play_onnx = importlib.import_module("play_onnx")
    info = {"legal_action_mask": np.array([0, 1]), "action_mask": np.array([1, 0])}
    assert play_onnx.mask_of(np.zeros(4), info, gymnasium.make("CartPole-v1")).tolist() == [True, False]
