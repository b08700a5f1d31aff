"""EnvPool's Atari against ale-py's under Gymnasium's standard wrappers: frame by frame, until a game ends.

Both are put into one state: no sticky actions, and one frame without an action at the start, where EnvPool has at
least one and FIRE in its place. From there on memory, frames, rewards, lives and ends are equal. What differs is in
docs/environments_of_your_own.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.factory import make_vector_env

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")

GAMES = {"Pong": "pong", "Breakout": "breakout", "Qbert": "qbert", "BeamRider": "beam_rider", "Seaquest": "seaquest",
         "SpaceInvaders": "space_invaders"}  # fmt: skip
FRAMES = 108_000
START = {"noop_max": 1, "use_fire_reset": False}
"""One frame without an action."""


@pytest.fixture(scope="module")
def ale() -> Iterator[Any]:
    """ale-py's environments; its import adds ids to Gymnasium's registry, of which other tests know nothing."""
    before = dict(gymnasium.registry)
    from ale_py import AtariEnv

    yield AtariEnv
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


class OneFrame(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Begins with one frame without an action; Gymnasium's own wrapper draws how many there are, at least one."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        observation, _, _, _, info = self.env.step(0)
        return observation, info


def under_the_standard_wrappers(ale: Any, game: str) -> gymnasium.Env[Any, Any]:
    env = ale(game=game, frameskip=1, repeat_action_probability=0.0, full_action_space=False,
              max_num_frames_per_episode=FRAMES)  # fmt: skip
    return FrameStackObservation(AtariPreprocessing(OneFrame(env), noop_max=0, frame_skip=4, screen_size=84), 4)


@pytest.mark.parametrize("name", GAMES)
def test_frames_rewards_and_ends_are_those_of_ale_py(name: str, ale: Any) -> None:
    pool = make_vector_env(EnvConfig(id=f"{name}-v5", kwargs=START, num_threads=1), [1], "envpool")
    env = under_the_standard_wrappers(ale, GAMES[name])
    assert pool.action_space.n == env.action_space.n
    assert 4 * pool.longest_episode == FRAMES
    assert largest_difference(pool.reset(), env.reset(seed=1)[0]) == 0
    actions, steps, score = np.random.default_rng(0), 0, 0.0
    for _ in range(400 if name == "Breakout" else 80):
        action = int(actions.integers(env.action_space.n))
        step = pool.step(np.array([[action]]))
        observation, reward, terminated, truncated, _ = env.step(action)
        assert (step.rewards[0], step.terminated[0], step.truncated[0]) == (reward, terminated, truncated)
        assert largest_difference(step.observations, observation) == 0
        steps, score = steps + 1, score + float(reward)
        if terminated:
            break
    pool.close()
    env.close()
    if name == "Breakout":
        assert (steps, score) == (251, 2.0)


def largest_difference(row: np.ndarray, observation: np.ndarray) -> int:
    return int(np.abs(row.reshape(4, 84, 84).astype(int) - np.asarray(observation).astype(int)).max())
