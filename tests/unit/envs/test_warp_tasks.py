"""The tasks of mujoco-warp's worlds give Gymnasium's numbers, wherever the positions and velocities come from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from as_on_a_gpu import META, AsOnAGpu

from ppolab.envs.warp.draws import GAMMA, Draws, _mixed
from ppolab.envs.warp.scene import SEEN, Beginning, Moved, Scene
from ppolab.envs.warp.tasks import TASKS
from ppolab.envs.warp.worlds import Worlds

OTHERS: Mapping[str, Mapping[str, Any]] = {
    "Ant-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.1, "contact_cost_weight": 0.1, "healthy_reward": 3.0,
        "main_body": "front_left_leg", "healthy_z_range": (0.5, 0.7), "contact_force_range": (-0.5, 2.0),
        "exclude_current_positions_from_observation": False, "include_cfrc_ext_in_observation": False,
    },
    "HalfCheetah-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "exclude_current_positions_from_observation": False,
    },
    "Hopper-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "healthy_reward": 3.0, "healthy_state_range": (-1, 1),
        "healthy_z_range": (1.1, 1.3), "healthy_angle_range": (-0.1, 0.1), "terminate_when_unhealthy": False,
        "exclude_current_positions_from_observation": False,
    },
    "Humanoid-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "contact_cost_weight": 1.0, "healthy_reward": 3.0,
        "contact_cost_range": (2.0, 4.0), "healthy_z_range": (1.3, 1.4),
        "exclude_current_positions_from_observation": False, "include_cinert_in_observation": False,
        "include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "HumanoidStandup-v5": {
        "uph_cost_weight": 2.0, "ctrl_cost_weight": 0.5, "impact_cost_weight": 1.0, "impact_cost_range": (2.0, 4.0),
        "exclude_current_positions_from_observation": False, "include_cvel_in_observation": False,
    },
    "InvertedDoublePendulum-v5": {"healthy_reward": 3.0},
    "InvertedPendulum-v5": {},
    "Pusher-v5": {"reward_near_weight": 2.0, "reward_dist_weight": 3.0, "reward_control_weight": 4.0},
    "Reacher-v5": {"reward_dist_weight": 3.0, "reward_control_weight": 4.0},
    "Swimmer-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "exclude_current_positions_from_observation": False,
    },
    "Walker2d-v5": {
        "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "healthy_reward": 3.0, "healthy_z_range": (1.2, 1.3),
        "healthy_angle_range": (-0.05, 0.05), "exclude_current_positions_from_observation": False,
    },
}  # fmt: skip
"""Arguments that differ from the defaults."""
NOT_OF_A_TASK = {"xml_file", "frame_skip", "default_camera_config", "kwargs"}
"""Arguments that choose the model, the length of a step, or a picture."""


def scene_of(envs: Sequence[Any]) -> Scene:
    """What mujoco-warp would show of the states of Gymnasium's environments."""
    seen = {name: torch.from_numpy(np.stack([getattr(env.data, name) for env in envs])) for name in SEEN}
    model = envs[0].model
    names = {model.body(index).name: index for index in range(model.nbody)}
    return Scene(**seen, body_mass=torch.from_numpy(model.body_mass), bodies=names)


@pytest.mark.parametrize("others", [False, True], ids=["defaults", "others"])
@pytest.mark.parametrize("env_id", TASKS)
def test_observations_rewards_and_ends_are_gymnasiums(env_id: str, others: bool) -> None:
    kwargs = dict(OTHERS[env_id]) if others else {}
    envs: list[Any] = [gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped for _ in range(3)]
    task = TASKS[env_id](**kwargs)
    rng = np.random.default_rng(0)
    first = [env.reset(seed=index)[0] for index, env in enumerate(envs)]
    np.testing.assert_allclose(task.observation(scene_of(envs)), first, rtol=1e-12, atol=1e-12)
    ends = []
    for _ in range(25):
        before = task.place(scene_of(envs))
        actions = np.stack([rng.uniform(env.action_space.low, env.action_space.high) for env in envs])
        steps = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        scene = scene_of(envs)
        moved = Moved(before, task.place(scene), torch.from_numpy(actions), envs[0].dt)
        reward, terminated = task.outcome(scene, moved)
        np.testing.assert_allclose(task.observation(scene), [step[0] for step in steps], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(reward, [step[1] for step in steps], rtol=1e-9, atol=1e-9)
        assert terminated.tolist() == [step[2] for step in steps]
        ends.extend(terminated.tolist())
    if others and "healthy_z_range" in kwargs and kwargs.get("terminate_when_unhealthy", True):
        assert any(ends), "nothing has shown how an episode ends"


class Still:
    """Worlds on `meta`, in which nothing moves."""

    def __init__(self, env: Any) -> None:
        seen = scene_of([env, env])
        tensors = {name: getattr(seen, name).to(META, torch.float32) for name in (*SEEN, "body_mass")}
        self.scene = Scene(**tensors, bodies=seen.bodies)
        own = {"act": (2, 0), "qacc_warmstart": (2, env.model.nv), "time": (2,)}
        self.state = {name: torch.zeros(shape, device=META) for name, shape in own.items()}
        self.overflow = torch.zeros(2, dtype=torch.int32, device=META)
        rest = (torch.from_numpy(values.copy())[None].to(META) for values in (env.init_qpos, env.init_qvel))
        self.rest = Beginning(*rest)
        self.seconds = env.dt

    def step(self) -> None:
        pass

    def derive(self) -> None:
        pass


@pytest.mark.parametrize("env_id", TASKS)
def test_a_step_on_a_gpu_waits_for_nothing_and_stays_there(env_id: str) -> None:
    env: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    worlds = Worlds(TASKS[env_id](), Still(env), [1, 2], 1000)
    worlds.reset()
    with AsOnAGpu() as gpu:
        step = worlds.step(torch.zeros((2, env.model.nu), device=META))
    assert gpu.count > 50 and not gpu.problems
    assert {each.dtype for each in (step.observations, step.rewards)} == {torch.float32}


@pytest.mark.parametrize("env_id", TASKS)
def test_arguments_and_defaults_are_gymnasiums(env_id: str) -> None:
    made: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(type(made)).parameters.items()
        if name not in NOT_OF_A_TASK
    }
    ours = {field.name: field.default for field in fields(TASKS[env_id])}  # type: ignore[arg-type]
    assert ours == parameters
    assert set(OTHERS[env_id]) <= set(ours)


@pytest.mark.parametrize("env_id", TASKS)
def test_episodes_begin_as_gymnasiums_do(env_id: str) -> None:
    env: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    rest = Beginning(*(torch.from_numpy(values.copy())[None] for values in (env.init_qpos, env.init_qvel)))
    count = 4000
    words = torch.arange(count)
    begun = TASKS[env_id]().beginning(Draws(words, torch.zeros_like(words)), rest)
    ours = torch.cat(begun, 1).numpy()
    theirs = []
    for seed in range(400):
        env.reset(seed=seed)
        theirs.append(np.concatenate([env.data.qpos, env.data.qvel]))
    theirs = np.array(theirs)
    scale = theirs.std(axis=0)
    assert np.array_equal(scale > 1e-12, ours.std(axis=0) > 1e-12)
    error = scale / np.sqrt(len(theirs))
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= 5 * error + 1e-12).all()
    assert (np.abs(ours.std(axis=0) - scale) <= 0.15 * scale + 1e-12).all()
    uniform = np.abs(theirs - theirs.mean(axis=0)).max(axis=0) < 2 * scale  # a normal distribution goes beyond
    reach = np.abs(theirs - theirs.mean(axis=0)).max(axis=0)
    assert (np.abs(ours - ours.mean(axis=0)).max(axis=0) <= 1.1 * reach + 1e-12)[uniform].all()


def test_goals_lie_where_gymnasium_puts_them() -> None:
    words = torch.arange(4000)
    draws = Draws(words, torch.zeros_like(words))
    reacher = TASKS["Reacher-v5"]().beginning(draws, Beginning(torch.zeros(1, 4), torch.zeros(1, 4)))
    assert (reacher.qpos[:, -2:].norm(dim=1) < 0.2).all()
    pusher = TASKS["Pusher-v5"]().beginning(draws, Beginning(torch.zeros(1, 11), torch.zeros(1, 11)))
    assert (pusher.qpos[:, -4:-2].norm(dim=1) > 0.17).all()


def test_the_generator_is_splitmix64() -> None:
    """The first numbers of the published program for the seed 1234567."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    words = _mixed(1234567 + torch.arange(1, 4) * GAMMA)
    assert [word % 2**64 for word in words.tolist()] == known


def test_every_world_and_every_episode_has_numbers_of_its_own() -> None:
    seeds = torch.tensor([1, 2, 1])
    first = Draws(seeds, torch.tensor([0, 0, 1])).uniform(4)
    assert len(set(first.flatten().tolist())) == 12
    again = Draws(seeds, torch.tensor([0, 0, 1]))
    assert torch.equal(torch.cat((again.uniform(2), again.uniform(2)), 1), first)


def test_numbers_are_uniform_and_normal() -> None:
    words = torch.arange(20_000)
    draws = Draws(words, torch.zeros_like(words))
    uniform, normal = draws.uniform(3, -2.0, 4.0), draws.normal(3)
    assert uniform.min() >= -2.0 and uniform.max() < 4.0
    torch.testing.assert_close(uniform.mean(0), torch.ones(3, dtype=torch.float64), rtol=0, atol=0.05)
    torch.testing.assert_close(uniform.std(0), torch.full((3,), 6 / 12**0.5, dtype=torch.float64), rtol=0.02, atol=0)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.03)
    torch.testing.assert_close(normal.std(0), torch.ones(3, dtype=torch.float64), rtol=0.02, atol=0)
    torch.testing.assert_close((normal**4).mean(0), torch.full((3,), 3.0, dtype=torch.float64), rtol=0.1, atol=0)
