"""Gymnasium's MuJoCo tasks in mujoco-warp's worlds, beside Gymnasium itself, on a processor.

All of these tests go to one worker: Warp compiles its kernels, which takes minutes where its cache has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from helpers import make_config, make_env, make_policy
from numpy.typing import NDArray
from resumed_runs import assert_the_same_run, killed_run, whole_run

from commands import ROOT, metric_rows, run_folders, train
from ppolab.config.schema import EnvConfig
from ppolab.envs.factory import make_vector_env
from ppolab.envs.vector_env import Step
from ppolab.envs.warp.backend import WarpEnv, task_of
from ppolab.envs.warp.simulator import Simulator
from ppolab.envs.warp.worlds import Worlds
from ppolab.errors import StateNotReached
from ppolab.training.collector import Collector

CPU = torch.device("cpu")
WORLDS, STEPS = 4, 40


@dataclass(frozen=True)
class Tolerance:
    """Of numbers after a step from the same state; a difference of observations is divided by 1 + |observation|.

    Attributes:
        most: of the observations of nine steps in ten. all: of every step, in which a contact may begin that the other
            side has not yet. reward: of every step.
    """

    most: float
    all: float
    reward: float


TOLERANCES = {
    "Ant-v5": Tolerance(1e-3, 5e-2, 1e-3),
    "HalfCheetah-v5": Tolerance(1e-3, 1e-2, 1e-4),
    "Hopper-v5": Tolerance(1e-4, 1e-3, 1e-4),
    "Humanoid-v5": Tolerance(2e-2, 0.5, 1e-3),
    "HumanoidStandup-v5": Tolerance(2e-2, 2.0, 1e-2),
    "InvertedDoublePendulum-v5": Tolerance(1e-4, 1e-3, 1e-4),
    "InvertedPendulum-v5": Tolerance(1e-5, 1e-4, 0.0),
    "Pusher-v5": Tolerance(1e-4, 1e-2, 1e-4),
    "Reacher-v5": Tolerance(1e-4, 1e-3, 1e-5),
    "Swimmer-v5": Tolerance(1e-5, 1e-4, 1e-4),
    "Walker2d-v5": Tolerance(1e-3, 1e-2, 1e-4),
}
TURNED = ("Ant-v5", "Humanoid-v5", "HumanoidStandup-v5")
"""Tasks whose legs are steep capsules in three dimensions: their friction is compared under an elliptic cone.

See findings/mujoco_warp_contact_frame_of_steep_capsules.sh.
"""


@dataclass
class Compared:
    """Differences of N worlds to N environments, step by step."""

    observations: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    beginnings: list[float] = field(default_factory=list)
    ends: list[tuple[bool, bool]] = field(default_factory=list)


def gymnasiums(env_id: str) -> list[Any]:
    """Gymnasium's environments with what mujoco-warp has of solvers."""
    envs: list[Any] = [gymnasium.make(env_id, disable_env_checker=True).unwrapped for _ in range(WORLDS)]
    for env in envs:
        env.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        if env_id in TURNED:
            env.model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    return envs


def compared(env_id: str) -> tuple[Compared, Worlds]:
    """Take steps in both from the same states, with the same random actions."""
    envs, found = gymnasiums(env_id), Compared()
    task, longest = task_of(EnvConfig(id=env_id)), gymnasium.spec(env_id).max_episode_steps
    simulator = Simulator(
        envs[0].model, WORLDS, envs[0].frame_skip, CPU,
        contacts=task.contacts, rows=task.rows, with_forces=task.has_forces,
    )  # fmt: skip
    worlds = Worlds(task, simulator, range(WORLDS), longest)

    def follow(index: int) -> None:
        """Put an environment where its world is."""
        for name in ("qpos", "qvel"):
            getattr(envs[index].data, name)[:] = simulator.state[name][index].numpy()

    def begin(index: int, observation: torch.Tensor) -> None:
        envs[index].reset(seed=index)
        follow(index)
        mujoco.mj_forward(envs[index].model, envs[index].data)
        found.beginnings.append(difference(envs[index]._get_obs(), observation))

    for index, observation in enumerate(worlds.reset()):
        begin(index, observation)
    rng, space = np.random.default_rng(0), envs[0].action_space
    began = torch.zeros(WORLDS, dtype=torch.bool)
    for _ in range(STEPS):
        actions = rng.uniform(space.low, space.high, (WORLDS, *space.shape)).astype(np.float32)
        step = worlds.step(torch.from_numpy(actions))
        for index, env in enumerate(envs):
            if began[index]:
                begin(index, step.observations[index])
                continue
            observation, reward, terminated, _, _ = env.step(actions[index])
            found.observations.append(difference(observation, step.observations[index]))
            found.rewards.append(abs(reward - float(step.rewards[index])))
            found.ends.append((terminated, bool(step.terminated[index])))
            follow(index)
        began = step.terminated | step.truncated
    return found, worlds


def difference(theirs: NDArray[np.float64], ours: torch.Tensor) -> float:
    return float((np.abs(theirs - ours.numpy()) / (1 + np.abs(theirs))).max())


@pytest.mark.parametrize("env_id", TOLERANCES)
def test_worlds_do_what_gymnasiums_environments_do(env_id: str) -> None:
    found, worlds = compared(env_id)
    allowed = TOLERANCES[env_id]
    assert np.quantile(found.observations, 0.9) <= allowed.most
    assert max(found.observations) <= allowed.all
    assert max(found.rewards) <= allowed.reward
    assert max(found.beginnings) <= allowed.most
    assert all(theirs == ours for theirs, ours in found.ends)
    assert not worlds.overflow.any()


def test_the_tolerances_are_those_of_the_page() -> None:
    page = (ROOT / "docs/warp.md").read_text()
    rows = [f"| {name} | {each.most:g} | {each.all:g} | {each.reward:g} |" for name, each in TOLERANCES.items()]
    assert "\n".join(rows) in page


def played(env: Any, actions: Sequence[NDArray[np.float32]]) -> Iterator[Step]:
    for action in actions:
        yield env.step(action)


@pytest.mark.parametrize("kwargs", [{}, {"max_episode_steps": 7}], ids=["plain", "short"])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5"])
def test_stored_environments_go_on_bit_by_bit(env_id: str, kwargs: dict[str, Any]) -> None:
    config = EnvConfig(id=env_id, backend="warp", kwargs=kwargs, frame_stack=2 if kwargs else None)
    with closing(make_vector_env(config, [1, 2, 3], "warp")) as env:
        env.reset()
        width = env.action_space.shape[0]  # type: ignore[index]
        actions = np.random.default_rng(0).normal(size=(30, 3, width)).astype(np.float32)
        before = list(played(env, actions[:10]))
        state = env.state()
        assert state is not None
        expected = list(played(env, actions[10:]))
    ends = [step.truncated.any() for step in (*before, *expected)]
    assert any(ends) == bool(kwargs)
    with closing(make_vector_env(config, [7, 8, 9], "warp")) as other:
        other.reset()
        other.restore(state)
        for step, mine in zip(expected, played(other, actions[10:]), strict=True):
            assert np.array_equal(step.observations, mine.observations)
            assert np.array_equal(step.rewards, mine.rewards)
            assert np.array_equal(step.valid, mine.valid)
            assert np.array_equal(step.terminated, mine.terminated)


def test_states_of_other_backends_are_refused() -> None:
    config = EnvConfig(id="Hopper-v5", backend="warp")
    pools = [make_vector_env(config, [1, 2], backend) for backend in ("gymnasium", "warp")]
    states = []
    for env in pools:
        env.reset()
        states.append(env.state())
    for env, state in zip(pools, reversed(states), strict=True):
        assert state is not None
        with pytest.raises(StateNotReached, match="another backend"):
            env.restore(state)
        env.close()


def test_environments_made_anew_are_those_of_their_seeds() -> None:
    config = EnvConfig(id="Hopper-v5", backend="warp")
    with closing(make_vector_env(config, [1, 2], "warp")) as env:
        first, second = env.reset(), env.reset()
        assert not np.array_equal(first, second) and not np.array_equal(first[0], first[1])
        env.restart([1, 2])
        assert np.array_equal(env.reset(), first)
        assert np.array_equal(env.reset_some(np.array([False, True])), second[1:])


def test_a_killed_run_resumes_as_itself(tmp_path: Path) -> None:
    settings = (
        "env=halfcheetah", "env.backend=warp", "env.kwargs.max_episode_steps=40", "num_envs=32", "epochs=2",
        "compile=false",
    )  # fmt: skip
    whole = whole_run(tmp_path / "whole", *settings)
    killed = killed_run(tmp_path / "killed", 0, *settings)
    assert_the_same_run(whole, killed)
    assert "HalfCheetah-v5 on warp" in (whole / "train.log").read_text()


def test_the_preset_for_a_gpu_trains_on_a_processor_too(tmp_path: Path) -> None:
    smaller = ("trainer=cpu", "num_envs=16", "minibatch_size=64", "compile=false", "eval_episodes=1", "eval_interval=0")
    answer = train(tmp_path, "experiment=gpu", *smaller, "logger=none", "total_steps=512")
    assert answer.code == 0, answer.err
    (run,) = run_folders(tmp_path)
    assert len(metric_rows(run)) >= 2


@pytest.mark.parametrize("squash", [False, True], ids=["clipped", "squashed"])
def test_a_rollout_that_stays_on_the_device_is_the_one_that_is_taken_step_by_step(
    squash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers to rounding, also where episodes end within it and between rollouts."""
    config = make_config(
        "env.id=Hopper-v5", "env.backend=warp", num_envs=3, rollout_steps=30, minibatch_size=30, compile="false",
        **{"env.squash_actions": squash, "+env.kwargs.max_episode_steps": 25},
    )  # fmt: skip
    found = []
    for stays in (True, False):
        if not stays:
            monkeypatch.setattr(WarpEnv, "on_device", None)
        with closing(make_env(config)) as env:
            policy = make_policy(config, env)
            collector = Collector(env, 30, 0.99, torch.Generator().manual_seed(0), stagger=True)
            found.append([collector.collect(policy) for _ in range(2)])
    for ours, theirs in zip(*found, strict=True):
        for name, value in vars(theirs).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(ours, name), value, rtol=1e-3, atol=1e-3)
        assert [episode.length for episode in ours.episodes] == [episode.length for episode in theirs.episodes]
        assert ours.episodes
    assert bool(found[0][0].truncated.any()) and not bool(found[0][0].valid.all())
