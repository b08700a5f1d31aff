"""An end on the last allowed step: EnvPool hides it behind the time limit, and a table finds it again.

The truth comes from the same environments under a limit that is one step longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.backend_choice import backend_choice
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.envpool_tasks import END_CONDITIONS, FinalRows, end_condition, plain_name
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.vector_env import Step

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")

NUM_ENVS = 24
FAMILIES = ("envpool.box2d", "envpool.classic_control", "envpool.mujoco.gym", "envpool.toy_text")


@contextmanager
def made(env_id: str, **kwargs) -> Iterator[EnvPoolEnv]:
    seeds = list(range(NUM_ENVS))
    env = EnvPoolEnv(env_id, kwargs, seeds, num_threads=1, mapping=ActionMapping())
    yield env
    env.close()


def episode(env: EnvPoolEnv, steps: int) -> list[Step]:
    """The first steps under actions that depend on the observations alone, and bring most tasks to an end."""
    observations, rng, found = env.reset(), np.random.default_rng(0), []
    for _ in range(steps):
        found.append(env.step(actions_for(env, observations, rng)))
        observations = found[-1].observations
    return found


def actions_for(env: EnvPoolEnv, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if env.env_id.startswith("MountainCarContinuous"):
        return np.sign(observations[:, 1:2]).astype(np.float32)
    if env.env_id.startswith("MountainCar"):
        return np.where(observations[:, 1:2] > 0, 2, 0)
    if env.env_id.startswith("Acrobot"):
        return np.where(observations[:, 5:6] > 0, 2, 0)
    if isinstance(env.action_space, spaces.Discrete):
        return rng.integers(env.action_space.n, size=(NUM_ENVS, 1))
    return rng.uniform(-1, 1, size=(NUM_ENVS, *env.action_space.shape)).astype(np.float32)


def first_ends(steps: list[Step]) -> np.ndarray:
    """The step at which each environment's first episode terminates; 0 where it does not."""
    ends = np.zeros(NUM_ENVS, dtype=int)
    for number, step in enumerate(steps, 1):
        ends[step.terminated & (ends == 0)] = number
    return ends


ENDING = {
    "Acrobot-v1": 150, "Ant-v5": 60, "BipedalWalker-v3": 120, "CartPole-v1": 40, "FrozenLake-v1": 20, "Hopper-v4": 40,
    "Hopper-v5": 40, "Humanoid-v5": 30, "InvertedDoublePendulum-v5": 15, "InvertedPendulum-v5": 20,
    "LunarLander-v3": 110, "LunarLanderContinuous-v3": 110, "MountainCar-v0": 150, "MountainCarContinuous-v0": 120,
    "Walker2d-v5": 40,
}  # fmt: skip
"""Tasks, and steps within which some of their episodes end."""


@pytest.mark.parametrize("env_id", ENDING)
def test_an_end_on_the_last_allowed_step_is_told(env_id: str) -> None:
    with made(env_id, max_episode_steps=500) as env:
        ends = first_ends(episode(env, ENDING[env_id]))
    limit = int(np.bincount(ends[ends > 1]).argmax())
    with made(env_id, max_episode_steps=limit) as env:
        last = episode(env, limit)[-1]
    on_the_limit, later = ends == limit, (ends > limit) | (ends == 0)
    assert on_the_limit.any() and later.any()
    assert (last.terminated & last.truncated)[on_the_limit].all()
    assert last.truncated[later].all() and not last.terminated[later].any()


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "HumanoidStandup-v5", "Pendulum-v1", "Pusher-v5", "Reacher-v5"])
def test_tasks_that_never_end_are_only_truncated(env_id: str) -> None:
    with made(env_id, max_episode_steps=5) as env:
        last = episode(env, 5)[-1]
    assert last.truncated.all() and not last.terminated.any()


def test_the_pool_s_own_settings_decide() -> None:
    with made("Hopper-v5", max_episode_steps=500) as env:
        ends = first_ends(episode(env, 40))
    limit = int(np.bincount(ends[ends > 1]).argmax())
    for settings in ({"terminate_when_unhealthy": False}, {"healthy_z_min": -9.0, "healthy_angle_min": -9.0}):
        with made("Hopper-v5", max_episode_steps=limit, healthy_angle_max=9.0, **settings) as env:
            assert not episode(env, limit)[-1].terminated.any()
    with made("Hopper-v5", max_episode_steps=limit, exclude_current_positions_from_observation=False) as env:
        assert (episode(env, limit)[-1].terminated == (ends == limit)).all()


def test_taxi_pays_20_for_the_passenger_it_brings() -> None:
    condition = end_condition("Taxi-v3")
    assert condition is not None
    assert condition(FinalRows(np.zeros(3), np.array([-1.0, 20.0, -10.0]), None)).tolist() == [False, True, False]


@pytest.mark.parametrize("early", [False, True])
def test_both_backends_flag_such_a_step_of_cartpole_alike(early: bool) -> None:
    """Pushed to one side, a pole falls after some ten steps; `test_parity.py` has the same of Hopper and Walker2d."""
    with made("CartPole-v1") as env:
        first = env.reset()[0]
        ends = first_ends([env.step(np.ones((NUM_ENVS, 1), dtype=np.int64)) for _ in range(15)])
    limit = int(ends[0]) - early
    gym = gymnasium.make("CartPole-v1", max_episode_steps=limit)
    gym.reset(seed=0)
    gym.unwrapped.state = first  # type: ignore[attr-defined]
    with made("CartPole-v1", max_episode_steps=limit) as env:
        env.reset()
        for number in range(1, limit + 1):
            step = env.step(np.ones((NUM_ENVS, 1), dtype=np.int64))
            _, _, terminated, truncated, _ = gym.step(1)
            assert (step.terminated[0], step.truncated[0]) == (terminated, truncated)
            assert (terminated, truncated) == (number == limit and not early, number == limit)


def test_unknown_tasks_are_told_of_before_a_run() -> None:
    choice = backend_choice(EnvConfig(id="InvertedDoublePendulum-v4", backend="envpool"))
    assert choice.notes == (
        "InvertedDoublePendulum-v4: EnvPool does not tell an end on the last allowed step of an episode from its time "
        "limit; such a step counts as truncated only",
    )
    assert backend_choice(EnvConfig(id="CliffWalking-v1", backend="envpool")).notes == ()  # has no limit


def test_the_table_names_tasks_of_the_families_it_was_made_for() -> None:
    specs = envpool_ids.package().registration.registry.specs
    named = {env_id: specs[env_id][0] for env_id in envpool_ids.package().list_all_envs() if end_condition(env_id)}
    assert set(named.values()) == {*FAMILIES, "envpool.jumanji"}
    assert {plain_name(env_id) for env_id in named} <= set(END_CONDITIONS)


def test_every_shipped_task_of_envpool_is_in_the_table() -> None:
    for env_id in envpool_ids.package().list_all_envs():
        entry = str(gymnasium.registry[env_id].entry_point) if env_id in gymnasium.registry else ""
        if entry.startswith("gymnasium.envs.classic_control") or ("envs.mujoco" in entry and env_id.endswith("-v5")):
            assert end_condition(env_id) is not None, env_id
