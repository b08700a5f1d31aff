"""EnvPool's Atari: the learner sees lives and clipped rewards, and whole games are counted with their own score."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import sample_wrappers
import torch
from helpers import make_collector, make_config, make_policy
from numpy.typing import NDArray

from ppolab.agents.evaluation import play_episodes
from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids, pool_making
from ppolab.envs.factory import make_vector_env
from ppolab.envs.vector_env import VectorEnv
from ppolab.learning.rollout import Episode, totals
from ppolab.training.collector import Collector

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")

LEARNERS = {"episodic_life": True, "reward_clip": True}
SEEDS = [3, 4]


def games(env_id: str, backend: str = "envpool", wrappers: tuple[str, ...] = (), **kwargs: Any) -> VectorEnv:
    env = EnvConfig(id=env_id, kwargs=kwargs, num_threads=1, wrappers=list(wrappers))
    return make_vector_env(env, SEEDS, backend)


def played_again(env_id: str, kwargs: dict[str, Any], actions: NDArray[Any]) -> list[Episode]:
    """The games that the actions [T, N] make, told from what EnvPool's own info says of them."""
    pool = pool_making.made_pool(env_id, kwargs, SEEDS, num_threads=1)
    pool.reset()
    scores, found = np.zeros(len(SEEDS)), []
    for row in actions:
        _, _, terminated, truncated, info = pool.step(row)
        scores += info["reward"]
        for index in np.flatnonzero((info["terminated"] == 1) & (terminated | truncated) | truncated):
            found.append(Episode(float(scores[index]), int(info["elapsed_step"][index])))
            scores[index] = 0
    pool.close()
    return found


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
@pytest.mark.parametrize(("env_id", "limit"), [("Breakout-v5", 27000), ("SpaceInvaders-v5", 90)])
def test_a_rollout_counts_whole_games_with_their_score(env_id: str, limit: int, backend: str) -> None:
    small = {"num_envs": 2, "rollout_steps": 200, "minibatch_size": 50, "model.hidden_sizes": [8]}
    config = make_config("experiment=atari", **small, **{"env.id": env_id, "env.kwargs.max_episode_steps": limit})
    env = games(env_id, backend, **config.env.kwargs)
    rollout = make_collector(config, env).collect(make_policy(config, env))
    env.close()
    expected = played_again(env_id, config.env.kwargs, rollout.actions[..., 0].numpy().astype(np.int32))
    assert len(expected) >= 1
    assert rollout.episodes == totals(rollout).episodes == expected
    assert rollout.rewards.max() == 1.0
    if limit > 200:
        assert int(rollout.terminated.sum()) >= 5 * len(expected), "the learner's episodes end with a life"
    else:
        assert {episode.length for episode in expected} == {limit}
        assert max(episode.total_reward for episode in expected) > 1.0
    sums, discounted = np.zeros(2), []
    for rewards, ended, valid in zip(
        rollout.rewards, rollout.terminated | rollout.truncated, rollout.valid, strict=True
    ):
        sums = 0.99 * sums + rewards.numpy()
        discounted += sums[valid.numpy()].tolist()
        sums[ended.numpy()] = 0
    assert float(rollout.return_moments.mean) == pytest.approx(np.mean(discounted)), "of what the learner sees"


def test_a_game_that_a_staggered_start_cuts_short_is_forgotten() -> None:
    small = {"num_envs": 2, "rollout_steps": 60, "minibatch_size": 60, "model.hidden_sizes": [8]}
    config = make_config("experiment=atari", **small, **{"env.kwargs.max_episode_steps": 100})
    env = games("SpaceInvaders-v5", **config.env.kwargs)
    policy = make_policy(config, env)
    collector = Collector(env, 60, 0.99, torch.Generator().manual_seed(0), stagger=True)
    lengths = [[episode.length for episode in collector.collect(policy).episodes] for _ in range(3)]
    env.close()
    assert lengths == [[], [100], [100]]  # the second environment begins anew after 60 steps


BACKENDS = [("envpool", ()), ("gymnasium", ()), ("gymnasium", ("sample_wrappers:PlusOne",))]
"""What steps the games; the wrapper adds 1 to every reward of the learner's, and nothing to the score."""


@pytest.mark.parametrize(("backend", "wrappers"), BACKENDS)
def test_an_evaluation_presses_fire_after_a_lost_life_and_counts_the_game(
    backend: str, wrappers: tuple[str, ...]
) -> None:
    """Action 3 moves to the left and never fires; without a ball a game of Breakout stands still."""
    env = games("Breakout-v5", backend, wrappers, **LEARNERS)
    assert env.tells_game
    result = play_episodes(lambda rows, masks: np.full((len(rows), 1), 3), env)
    env.close()
    assert (result.returns, result.lengths) == ([2.0, 1.0], [180, 149])
    whole = games("Breakout-v5", backend, wrappers)
    whole.reset()
    steps = [whole.step(np.full((2, 1), 3)) for _ in range(200)]
    assert not any(step.over.any() for step in steps)
    assert not whole.tells_game and steps[0].game is None
    whole.close()


@pytest.mark.parametrize("arguments", [{"episodic_life": True}, {"reward_clip": True}, LEARNERS])
def test_steps_one_by_one_are_those_of_the_pool(arguments: dict[str, Any]) -> None:
    pool, alone = (games("Breakout-v5", backend, **arguments) for backend in ("envpool", "gymnasium"))
    np.testing.assert_array_equal(pool.reset(), alone.reset())
    generator = np.random.default_rng(0)
    lives, ends = 0, 0
    for _ in range(260):
        actions = generator.integers(4, size=(2, 1))
        first, second = pool.step(actions), alone.step(actions)
        for name in ("observations", "rewards", "terminated", "truncated", "valid"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
        assert first.game is not None and second.game is not None
        for row in range(2):  # the row that only resets tells of no game one by one, and is left out
            if first.valid[row]:
                assert (first.game.rewards[row], first.game.over[row]) == (
                    second.game.rewards[row], second.game.over[row],
                )  # fmt: skip
        lives, ends = lives + int(first.terminated.sum()), ends + int(first.game.over.sum())
    pool.close()
    alone.close()
    assert lives > ends > 0 if "episodic_life" in arguments else lives == ends > 0


class SkipsAndHides(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes two steps for one, and gives the reward of neither."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, _ = self.env.step(action)
        if not (terminated or truncated):
            observation, _, terminated, truncated, _ = self.env.step(action)
        return observation, 0.0, terminated, truncated, {}


def test_a_wrapper_hides_nothing_of_the_game(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_wrappers, "SkipsAndHides", SkipsAndHides, raising=False)
    env = games("Breakout-v5", "gymnasium", ("sample_wrappers:SkipsAndHides",), **LEARNERS)
    result = play_episodes(lambda rows, masks: np.full((len(rows), 1), 3), env)
    env.close()
    assert result.returns == [2.0, 1.0], "as in the test above"
    assert 75 <= result.lengths[1] < result.lengths[0] <= 95, "of steps that the learner takes"


def test_an_episode_that_a_wrapper_ends_is_a_game_since_a_new_one_follows() -> None:
    env = games("Breakout-v5", "gymnasium", ("sample_wrappers:ten_steps",), **LEARNERS)
    env.reset()
    steps = [env.step(np.full((2, 1), 3)) for _ in range(33)]
    env.close()
    over = np.array([step.over for step in steps])
    assert np.flatnonzero(over[:, 0]).tolist() == np.flatnonzero(over[:, 1]).tolist() == [9, 20, 31]
