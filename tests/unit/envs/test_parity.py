"""EnvPool's MuJoCo tasks against Gymnasium's: what is learnt on one must hold on the other.

Hopper, HalfCheetah and Walker2d: EnvPool's first observation holds all of the state but the root's x, on which nothing
depends; put into Gymnasium, whole episodes under the same actions must agree. Measured: observations to 1e-12 and
rewards, which EnvPool hands out in single precision, to 1e-7 relative; rarely the constraint solver stops one iteration
earlier in one build, which shows as 1e-8. Contact amplifies that, under forceful actions to 1e-4 within 100 steps:
whole episodes are compared under gentle actions, to 1e-5, and single steps under forceful ones, to 1e-6.

Ant: its joint limits and contacts go through a solver that stops at a tolerance, and the two builds of MuJoCo stop at
different points: 1e-7 after a step in the air, up to 1e-2 after one with contact, and whole trajectories part after
some 30 steps. So every single step starts from EnvPool's state, and quantiles of the differences are compared: half of
the steps within 1e-3, nineteen in twenty within 1e-2, the mean reward within 5e-3, and the same terminations.
"""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.factory import make_vector_env
from ppolab.envs.spaces import ActionMapping

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
mujoco = pytest.importorskip("mujoco")

ROOT_COORDINATES = {"Ant-v5": 2}
"""How many leading components of the position the observation leaves out; 1 for the others."""


GENTLE = 0.3
"""Share of the torque range that whole episodes use."""


class Twins:
    """An EnvPool environment and a Gymnasium one that can be put into its state."""

    def __init__(self, env_id: str, seed: int, **kwargs: int) -> None:
        self.pool = EnvPoolEnv(env_id, kwargs, [seed], num_threads=1, mapping=ActionMapping())
        self.gym = gymnasium.make(env_id, **kwargs)
        self.simulator = self.gym.unwrapped
        self._hidden = ROOT_COORDINATES.get(env_id, 1)

    def reset(self) -> np.ndarray:
        observation = self.pool.reset()[0]
        self.synchronize(observation)
        return observation

    def synchronize(self, observation: np.ndarray) -> None:
        """Gymnasium's simulator as after a reset, in the state that EnvPool's observation tells."""
        model, data = self.simulator.model, self.simulator.data
        self.gym.reset(seed=0)
        mujoco.mj_resetData(model, data)  # no warm start left from another episode
        positions = model.nq - self._hidden
        qpos = np.concatenate((np.zeros(self._hidden), observation[:positions]))
        self.simulator.set_state(qpos, observation[positions : positions + model.nv])

    def step(self, action: np.ndarray):
        return self.pool.step(action[None].astype(np.float32)), self.gym.step(self.decoded(action))

    def decoded(self, action: np.ndarray) -> np.ndarray:
        return self.pool._decode(action[None].astype(np.float32))[0]

    def close(self) -> None:
        self.pool.close()
        self.gym.close()


@pytest.fixture
def twins(request: pytest.FixtureRequest):
    pair = Twins(*request.param)
    yield pair
    pair.close()


EXACT = [(env_id, seed) for env_id in ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5") for seed in (0, 1)]


@pytest.mark.parametrize("twins", EXACT, indirect=True, ids=[f"{name}-{seed}" for name, seed in EXACT])
def test_whole_episodes_agree(twins: Twins) -> None:
    rng, compared = np.random.default_rng(0), 0
    while compared < 120:
        observation = twins.reset()
        np.testing.assert_array_equal(observation, twins.simulator._get_obs())
        for _ in range(100):
            pool, (gym_observation, gym_reward, gym_terminated, _, _) = twins.step(
                GENTLE * rng.uniform(-1, 1, twins.gym.action_space.shape)
            )
            np.testing.assert_allclose(pool.observations[0], gym_observation, rtol=1e-5, atol=1e-5)
            assert pool.rewards[0] == pytest.approx(gym_reward, rel=1e-5, abs=1e-5)
            assert pool.terminated[0] == gym_terminated
            compared += 1
            if gym_terminated:
                break


def test_an_end_on_the_last_allowed_step_is_flagged_alike() -> None:
    """Terminated and truncated; one step earlier only truncated."""
    for env_id in ("Hopper-v5", "Walker2d-v5"):
        length = len(flags_of_an_episode(env_id))
        for limit, terminated in ((length, True), (length - 1, False)):
            flags = flags_of_an_episode(env_id, max_episode_steps=limit)
            assert len(flags) == limit
            assert flags[-1] == ((terminated, True), (terminated, True))
            assert set(flags[:-1]) == {((False, False), (False, False))}


def flags_of_an_episode(env_id: str, **kwargs: int) -> list[tuple[tuple[bool, bool], tuple[bool, bool]]]:
    """(terminated, truncated) of EnvPool and of Gymnasium, for every step."""
    pair, rng, flags = Twins(env_id, 0, **kwargs), np.random.default_rng(0), []
    pair.reset()
    while not flags or not any(flags[-1][0]):
        step, (_, _, terminated, truncated, _) = pair.step(GENTLE * rng.uniform(-1, 1, pair.gym.action_space.shape))
        flags.append(((bool(step.terminated[0]), bool(step.truncated[0])), (bool(terminated), bool(truncated))))
    pair.close()
    return flags


@pytest.mark.parametrize(
    "twins", [("Hopper-v5", 0), ("HalfCheetah-v5", 0)], indirect=True, ids=["Hopper", "HalfCheetah"]
)
def test_single_steps_agree_under_forceful_actions(twins: Twins) -> None:
    """Walker2d is left out: its observation clips velocities that forceful actions exceed."""
    rng = np.random.default_rng(0)
    observation, ended = twins.reset(), False
    for _ in range(200):
        twins.synchronize(observation)
        pool, (gym_observation, gym_reward, gym_terminated, _, _) = twins.step(
            rng.uniform(-1, 1, twins.gym.action_space.shape)
        )
        observation = pool.observations[0]
        if not ended:
            np.testing.assert_allclose(observation, gym_observation, rtol=1e-6, atol=1e-6)
            assert pool.rewards[0] == pytest.approx(gym_reward, rel=1e-6, abs=1e-6)
            assert pool.terminated[0] == gym_terminated
        ended = pool.terminated[0] or pool.truncated[0]


@pytest.mark.parametrize("twins", [("Ant-v5", 0), ("Ant-v5", 1)], indirect=True, ids=["Ant-v5-0", "Ant-v5-1"])
def test_single_steps_of_ant_agree(twins: Twins) -> None:
    rng = np.random.default_rng(0)
    observation, ended = twins.reset(), False
    state_errors, force_errors, reward_errors = [], [], []
    for _ in range(200):
        twins.synchronize(observation)
        pool, (gym_observation, gym_reward, gym_terminated, _, _) = twins.step(rng.uniform(-1, 1, 8))
        observation = pool.observations[0]
        if not ended:
            assert pool.terminated[0] == gym_terminated
            errors = np.abs(observation - gym_observation)
            state_errors.append(errors[:27].max())
            force_errors.append(errors[27:].max())
            reward_errors.append(pool.rewards[0] - gym_reward)
        ended = pool.terminated[0] or pool.truncated[0]
    assert len(state_errors) >= 150
    assert np.quantile(state_errors, 0.5) < 1e-3 and np.quantile(state_errors, 0.95) < 1e-2
    assert np.quantile(force_errors, 0.5) < 1e-3 and np.quantile(force_errors, 0.95) < 1e-2
    assert abs(np.mean(reward_errors)) < 5e-3 and np.quantile(np.abs(reward_errors), 0.95) < 5e-2


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5"])
def test_spaces_are_the_same(env_id: str) -> None:
    pool, gym = (make_vector_env(EnvConfig(id=env_id), [0], backend) for backend in ("envpool", "gymnasium"))
    assert pool.layout == gym.layout
    np.testing.assert_array_equal(pool.action_space.low, gym.action_space.low)
    np.testing.assert_array_equal(pool.action_space.high, gym.action_space.high)
    pool.close()
    gym.close()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5"])
def test_first_states_have_the_same_distribution(env_id: str) -> None:
    """Means and deviations of 300 first observations; 5 standard errors, so that 400 comparisons pass by chance."""
    firsts = []
    for backend in ("envpool", "gymnasium"):
        count = 300 if backend == "envpool" else 1
        env = make_vector_env(EnvConfig(id=env_id, num_threads=1), list(range(count)), backend)
        firsts.append(np.concatenate([env.reset() for _ in range(300 // count)]))
        env.close()
    pool, gym = firsts
    deviation = np.maximum(pool.std(0), gym.std(0)) + 1e-12
    assert (np.abs(pool.mean(0) - gym.mean(0)) < 5 * deviation * (2 / 300) ** 0.5).all()
    assert (np.abs(pool.std(0) - gym.std(0)) < 5 * deviation / 300**0.5).all()
