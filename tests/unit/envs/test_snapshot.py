"""Snapshots: a restored environment goes on bit for bit, in this process or another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probe_envs  # noqa: F401
import pytest
from helpers import tiny_config
from numpy.typing import NDArray

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.factory import VectorEnv, make_vector_env
from ppolab.envs.snapshot import captured
from ppolab.errors import StateNotReached
from ppolab.records.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

IDS = (
    "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "HumanoidStandup-v5", "Swimmer-v5",
    "Reacher-v5", "Pusher-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "CartPole-v1", "Pendulum-v1",
    "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "probe/Diary-v0",
)  # fmt: skip


needs_envpool = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")


def made(env_id: str, vectorization: str = "sync", seeds: tuple[int, ...] = (3, 4)) -> VectorEnv:
    kwargs = {"lengths": [5, 7]} if env_id == "probe/Diary-v0" else {}
    return make_vector_env(EnvConfig(id=env_id, kwargs=kwargs, vectorization=vectorization), list(seeds), "gymnasium")


def actions_of(env: VectorEnv, count: int, seed: int) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return [rng.integers(space.n, size=(env.num_envs, 1)) for _ in range(count)]
    return [rng.normal(size=(env.num_envs, *space.shape)).astype(np.float32) for _ in range(count)]


def trajectory(env: VectorEnv, actions: list[NDArray[Any]]) -> list[NDArray[Any]]:
    steps = [env.step(action) for action in actions]
    return [
        np.concatenate([getattr(step, name).ravel() for step in steps])
        for name in vars(steps[0])
        if name not in ("info", "game")
    ]


def stored(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """As a checkpoint file gives it back."""
    save_checkpoint(Checkpoint("", {"steps": 0, "state": state}, None, None), folder / "state.ckpt")
    return load_checkpoint(folder / "state.ckpt").module["state"]


@pytest.mark.parametrize("env_id", IDS)
def test_a_restored_environment_goes_on_bit_for_bit(env_id: str, tmp_path: Path) -> None:
    env, other = made(env_id), made(env_id, seeds=(8, 9))
    env.reset()
    trajectory(env, actions_of(env, 37, 0))
    state = env.state()
    assert state is not None
    other.restore(stored(state, tmp_path))
    following = actions_of(env, 250, 1)  # several episodes of those that end early
    first, second = trajectory(env, following), trajectory(other, following)
    assert all((mine == theirs).all() for mine, theirs in zip(first, second, strict=True))
    assert (env.reset() == other.reset()).all()
    env.close()
    other.close()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_processes_of_their_own_give_the_same_state(env_id: str, tmp_path: Path) -> None:
    env, other = made(env_id), made(env_id, "async", seeds=(8, 9))
    env.reset()
    trajectory(env, actions_of(env, 37, 0))
    other.restore(stored(env.state(), tmp_path))
    following = actions_of(env, 80, 1)
    first = trajectory(env, following)
    assert all((mine == theirs).all() for mine, theirs in zip(first, trajectory(other, following), strict=True))
    third = made(env_id)
    third.restore(other.state())
    following = actions_of(env, 80, 2)
    first = trajectory(env, following)
    assert all((mine == theirs).all() for mine, theirs in zip(first, trajectory(third, following), strict=True))
    for each in (env, other, third):
        each.close()


@pytest.mark.parametrize("at", range(8))
def test_a_state_may_be_taken_at_an_episode_s_end(at: int, tmp_path: Path) -> None:
    """Of the two environments each ends after 5, then 7 steps; the step after an end only resets."""
    env, other = made("probe/Diary-v0"), made("probe/Diary-v0")
    env.reset()
    for action in actions_of(env, at, 0):
        env.step(action)
    other.restore(stored(env.state(), tmp_path))
    following = actions_of(env, 20, 1)
    first, second = trajectory(env, following), trajectory(other, following)
    assert all((mine == theirs).all() for mine, theirs in zip(first, second, strict=True))


class Hidden:
    """Something whose state cannot be seen."""


@pytest.mark.parametrize("value", [Hidden(), object(), {1, 2}, iter([1]), np.array(["text"]), [Hidden()]], ids=range(6))
def test_an_attribute_that_may_hide_a_state_gives_none(value: object) -> None:
    env = gymnasium.make("probe/Diary-v0", lengths=[3])
    env.reset(seed=0)
    assert captured(env) is not None
    env.unwrapped.something = value
    assert captured(env) is None


def test_attributes_that_share_memory_give_none() -> None:
    env = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    assert captured(env) is not None
    env.unwrapped.another_name = env.unwrapped.state
    assert captured(env) is None


@needs_envpool
@pytest.mark.parametrize("env_id", [env_id for env_id in IDS if not env_id.startswith("probe/")])
def test_envpool_s_go_on_bit_for_bit_with_other_threads(env_id: str, tmp_path: Path) -> None:
    seeds = [3, 4, 5]
    env, other = (
        make_vector_env(EnvConfig(id=env_id, num_threads=threads), made_with, "envpool")
        for threads, made_with in ((1, seeds), (2, [8, 9, 10]))
    )
    env.reset()
    other.reset()
    trajectory(env, actions_of(env, 237, 0))  # into the second episode at least, except of those with 1000 steps
    env.reset_some(np.array([True, False, True]))
    trajectory(env, actions_of(env, 5, 3))
    other.restore(stored(env.state(), tmp_path))
    for seed in range(2):  # what was restored can itself be restored
        following = actions_of(env, 290, 1 + seed)
        first, second = trajectory(env, following), trajectory(other, following)
        assert all((mine == theirs).all() for mine, theirs in zip(first, second, strict=True))
        env.restore(other.state())
    env.close()
    other.close()


@needs_envpool
@pytest.mark.parametrize("at", [0, 1, 2, 99, 100, 101, 102, 202, 203])
def test_envpool_s_state_may_be_taken_around_an_episode_s_end(at: int) -> None:
    """Pusher's episodes have 100 steps, and the step after these only resets."""
    env, other = (make_vector_env(EnvConfig(id="Pusher-v5"), [3, 4], "envpool") for _ in range(2))
    env.reset()
    for action in actions_of(env, at, 0):
        env.step(action)
    other.restore(env.state())
    following = actions_of(env, 210, 1)
    first, second = trajectory(env, following), trajectory(other, following)
    assert all((mine == theirs).all() for mine, theirs in zip(first, second, strict=True))
    env.close()
    other.close()


@needs_envpool
def test_envpool_s_that_come_elsewhere_are_told_of() -> None:
    env = make_vector_env(EnvConfig(id="Hopper-v5"), [3, 4], "envpool")
    env.reset()
    trajectory(env, actions_of(env, 10, 0))
    state = env.state()
    state["environments"][1]["observation"][0] += 1e-15
    with pytest.raises(StateNotReached, match="the environments do not come to the observations of the checkpoint"):
        env.restore(state)
    env.close()


@needs_envpool
@pytest.mark.parametrize(
    "settings", [{"id": "CartpoleSwingup-v1"}, {"id": "Hopper-v5", "kwargs": {"max_episode_steps": 20_000}}]
)
def test_envpool_s_of_other_families_or_with_endless_episodes_give_none(settings: dict[str, Any]) -> None:
    env = make_vector_env(EnvConfig(**settings), [3, 4], "envpool")
    env.reset()
    assert env.state() is None
    env.close()


@needs_envpool
def test_envpool_restarts_with_new_seeds() -> None:
    env = make_vector_env(EnvConfig(id="Hopper-v5"), [3, 4, 5], "envpool")
    first = env.reset()
    trajectory(env, actions_of(env, 10, 0))
    env.restart([3, 4, 5])
    assert (env.reset() == first).all()
    env.restart([3, 4, 6])
    again = env.reset()
    assert (again[:2] == first[:2]).all() and (again[2] != first[2]).any()
    env.close()


def test_gymnasium_restarts_with_new_seeds() -> None:
    config = tiny_config("Hopper-v5")
    env = make_vector_env(config.env, [3, 4], "gymnasium")
    first = env.reset()
    trajectory(env, actions_of(env, 10, 0))
    env.restart([3, 4])
    assert (env.reset() == first).all()
    env.close()


@needs_envpool
@pytest.mark.parametrize(("source", "target"), [("envpool", "gymnasium"), ("gymnasium", "envpool")])
def test_a_state_of_another_backend_is_told_of(source: str, target: str) -> None:
    """As in a run that is resumed where EnvPool is missing, or since `auto` chooses otherwise."""
    env, other = (make_vector_env(EnvConfig(id="CartPole-v1"), [3, 4], backend) for backend in (source, target))
    env.reset()
    other.reset()
    with pytest.raises(StateNotReached, match="the checkpoint holds environments of another backend"):
        other.restore(env.state())
    env.close()
    other.close()
