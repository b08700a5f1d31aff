"""Worlds of mjlab's: how episodes end and begin, what is stored, and what is refused; with a stand-in for mjlab."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from fake_mjlab import ENV_ID, GOAL, installed
from torch import Tensor

from ppolab.agents.video import RenderError, record_video
from ppolab.config.schema import EnvConfig
from ppolab.envs.backend_choice import choose_backend, evaluation_backend, for_evaluation
from ppolab.envs.factory import check_environment, environment_spaces, make_vector_env, registered
from ppolab.envs.making import make_env
from ppolab.envs.snapshot import NoState
from ppolab.envs.warp import mjlab_state
from ppolab.envs.warp.mjlab_env import made_worlds
from ppolab.envs.warp.mjlab_worlds import MjlabWorlds
from ppolab.errors import ConfigError, StateNotReached

CPU = torch.device("cpu")


@pytest.fixture
def mjlab() -> Iterator[None]:
    with installed():
        yield


pytestmark = pytest.mark.usefixtures("mjlab")


def a_task(**settings: Any) -> EnvConfig:
    return EnvConfig(id=ENV_ID, **settings)


def made(seed: int = 1, worlds: int = 3, **kwargs: Any) -> MjlabWorlds:
    return made_worlds(a_task(kwargs=kwargs), [seed] * worlds, CPU)[0]


def actions(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


NOWHERE = actions(0.0, 0.0, 0.0)


def test_a_time_limit_truncates_and_the_next_step_begins_anew() -> None:
    worlds = made()
    first = worlds.reset().clone()
    for _ in range(4):
        step = worlds.step(actions(0.1, 0.1, 0.1))
        assert not step.truncated.any() and step.valid.all()
    final = worlds.step(actions(0.1, 0.1, 0.1))
    assert final.truncated.all() and not final.terminated.any() and final.valid.all()
    torch.testing.assert_close(final.observations[:, 0], first[:, 0] + 0.5)
    torch.testing.assert_close(final.rewards, torch.full((3,), 0.1))
    begun = worlds.step(actions(0.1, 0.1, 0.1))
    assert not (begun.valid | begun.truncated | begun.terminated | (begun.rewards != 0)).any()
    assert ((begun.observations[:, 0] <= 0) & (begun.observations[:, 0] != first[:, 0])).all()
    after = worlds.step(actions(0.1, 0.1, 0.1))
    assert after.valid.all()
    torch.testing.assert_close(after.observations[:, 0], begun.observations[:, 0] + 0.1)


def test_a_failure_terminates_its_own_world_only() -> None:
    worlds = made()
    first = worlds.reset().clone()
    step = worlds.step(actions(5.0, 0.0, 0.0))
    assert step.terminated.tolist() == [True, False, False] and not step.truncated.any()
    assert step.observations[0, 0] == first[0, 0] + 5.0 >= GOAL
    again = worlds.step(actions(-9.0, 0.5, 0.0))
    assert again.valid.tolist() == [False, True, True]
    assert -1 <= again.observations[0, 0] <= 0
    torch.testing.assert_close(again.observations[1, 0], first[1, 0] + 0.5)
    for _ in range(3):
        assert not worlds.step(NOWHERE).truncated[0]
    assert worlds.step(NOWHERE).valid.tolist() == [True, False, False], "the others' limit is one step earlier"


def test_a_reset_sees_how_the_episode_had_ended() -> None:
    """The world takes one more step between the two, after which it may look as if it had not failed."""
    worlds = made()
    worlds.reset()
    env: Any = worlds._env
    env.failures.clear()
    worlds.step(actions(5.0, 0.0, 0.0))
    worlds.step(actions(-9.0, 0.0, 0.0))
    assert env.failures == [True]


def test_what_a_step_gave_stays_as_it_is() -> None:
    worlds = made()
    worlds.reset()
    step = worlds.step(actions(5.0, 0.0, 0.0))
    kept = [value.clone() for value in step]
    worlds.step(actions(1.0, 5.0, 2.0))
    for value, before in zip(step, kept, strict=True):
        torch.testing.assert_close(value, before, rtol=0, atol=0)


def test_the_end_of_a_finite_horizon_is_a_terminal_state() -> None:
    worlds = made(is_finite_horizon=True, episode_length_s=1)
    worlds.reset()
    step = worlds.step(NOWHERE)
    assert step.terminated.all() and step.truncated.all()


def test_some_worlds_are_reset_alone() -> None:
    worlds = made()
    worlds.reset()
    before = worlds.step(NOWHERE).observations.clone()
    after = worlds.reset(torch.tensor([False, True, False]))
    assert [torch.equal(after[row], before[row]) for row in range(3)] == [True, False, True]


def test_a_world_whose_numbers_are_not_finite_is_ended() -> None:
    worlds = made()
    first = worlds.reset().clone()
    step = worlds.step(actions(float("nan"), 0.0, 0.0))
    assert step.diverged.tolist() == step.terminated.tolist() == [True, False, False]
    assert step.rewards[0] == 0 and torch.equal(step.observations[0], first[0])
    assert worlds.step(NOWHERE).observations.isfinite().all()


def test_random_numbers_are_of_the_seed_and_of_no_other_code() -> None:
    one, other = made(seed=1), made(seed=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = one.reset().clone()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(100)
    assert not torch.equal(first, other.reset())
    assert torch.equal(made(seed=1).reset(), first)


def test_restored_worlds_go_on_as_the_others_did() -> None:
    worlds = made()
    worlds.reset()
    for value in (0.4, 5.0, 0.1):
        worlds.step(actions(value, 0.2, -0.1))
    state = worlds.state()
    taken = [actions(value, 2.0, 0.3) for value in (0.3, 1.0, 5.0, 0.2, 0.1, 0.7, 0.2)]
    expected = [worlds.step(each) for each in taken]
    others = made(seed=9)
    others.reset()
    others.restore(state)
    for each, was in zip(taken, expected, strict=True):
        for value, before in zip(others.step(each), was, strict=True):
            torch.testing.assert_close(value, before, rtol=0, atol=0)
    env: Any = others._env
    was_env: Any = worlds._env
    assert env.level == was_env.level and torch.equal(env.sim.model.mass, was_env.sim.model.mass)


def test_a_state_of_other_worlds_is_not_taken() -> None:
    worlds, others = made(), made()
    worlds.reset()
    others.reset()
    env: Any = others._env
    env.another_counter = 1
    with pytest.raises(StateNotReached, match=r"env\.another_counter is not in both"):
        others.restore(worlds.state())


def test_worlds_with_something_unknown_give_no_state() -> None:
    worlds = made()
    worlds.reset()
    env: Any = worlds._env
    env.generator = iter([1])
    with pytest.raises(NoState):
        mjlab_state.captured(env)
    with closing(make_vector_env(a_task(), [1, 2], "mjlab")) as vector:
        vector.reset()
        assert vector.state() is not None
        inner: Any = vector
        inner.worlds._env.generator = iter([1])
        assert vector.state() is None


def test_steps_on_the_processor_and_on_the_device_are_the_same() -> None:
    rng = np.random.default_rng(0)
    taken = rng.normal(size=(8, 2, 1)).astype(np.float32) + 0.5
    with (
        closing(make_vector_env(a_task(), [1, 2], "mjlab")) as one,
        closing(make_vector_env(a_task(), [1, 2], "mjlab")) as other,
    ):
        assert np.array_equal(one.reset(), other.reset())
        assert one.longest_episode == 5
        assert other.on_device is not None
        other.on_device.begin_tensors()
        for each in taken:
            step, tensors = one.step(each), other.on_device.step_tensors(torch.from_numpy(each))
            assert np.array_equal(step.observations, tensors.observations.numpy())
            assert np.array_equal(step.valid, tensors.valid.numpy())
            assert np.array_equal(step.terminated, tensors.terminated.numpy())


def test_the_id_chooses_the_backend() -> None:
    env = a_task()
    check_environment(env)
    assert registered(ENV_ID) is None
    assert choose_backend(env) == evaluation_backend(for_evaluation(env)) == "mjlab"
    observations, acts = environment_spaces(env)
    assert (observations.shape, acts.shape) == ((2,), (1,))
    assert environment_spaces(a_task(frame_stack=3))[0].shape == (6,)


def test_one_world_is_an_environment_of_gymnasium() -> None:
    with closing(make_env(a_task())) as env:
        first, _ = env.reset(seed=3)
        moved = [env.step(np.array([0.1], dtype=np.float32)) for _ in range(5)]
        assert [each[2:4] for each in moved] == [(False, False)] * 4 + [(False, True)]
        np.testing.assert_allclose(moved[-1][0][0], first[0] + 0.5, rtol=1e-6)
        second, _ = env.reset()
        assert second[0] <= 0 and second[0] != first[0]
        assert env.reset(seed=3)[0].tolist() == first.tolist()


def test_arguments_reach_the_configuration() -> None:
    worlds = made(rewards={"moved": {"weight": 3}}, scene={"spacing": [4, 5]})
    worlds.reset()
    torch.testing.assert_close(worlds.step(actions(1.0, 0.0, 0.0)).rewards, torch.tensor([3.0, 0.0, 0.0]))
    env: Any = worlds._env
    assert env.cfg.scene.spacing == (4, 5)


MISTAKES: dict[str, tuple[EnvConfig, str]] = {
    "a task": (EnvConfig(id="mjlab:Fake-Movin"), "env.id=mjlab:Fake-Movin: .*; did you mean 'mjlab:Fake-Moving'?"),
    "no task": (EnvConfig(id="mjlab:xyz"), "env.id=mjlab:xyz: mjlab has no such task; it has Fake-Moving"),
    "a backend": (a_task(backend="warp"), "env.backend=warp: mjlab alone simulates .*; leave env.backend out"),
    "wrappers": (a_task(wrappers=["m:W"]), r"env.wrappers=\[m:W\]: wrap environments of Gymnasium"),
    "info": (a_task(log_info=["x"]), r"env.log_info=\[x\]: mjlab's worlds have no info; leave it out"),
    "a name": (a_task(kwargs={"decimatio": 2}), "env.kwargs.decimatio=2: .* did you mean 'decimation'?"),
    "no name": (a_task(kwargs={"xyz": 2}), "env.kwargs.xyz=2: .* has no such argument; it has scene, seed"),
    "an entry": (a_task(kwargs={"rewards": {"mover": {}}}), "env.kwargs.rewards.mover={}: .*did you mean 'moved'?"),
    "ours": (a_task(kwargs={"scene": {"num_envs": 2}}), "env.kwargs.scene.num_envs=2: ppolab sets it; leave it out"),
    "whole": (a_task(kwargs={"decimation": 1.5}), "env.kwargs.decimation=1.5: must be a whole number, such as mjlab's"),
    "a number": (a_task(kwargs={"episode_length_s": "long"}), "must be a number, such as mjlab's 5.0"),
    "true or false": (a_task(kwargs={"broken": 1}), "env.kwargs.broken=1: must be true or false"),
    "values": (a_task(kwargs={"scene": {"spacing": [1]}}), r"env.kwargs.scene.spacing=\[1\]: must be a list of 2"),
    "parts": (a_task(kwargs={"scene": 3}), "env.kwargs.scene=3: must be given part by part, .* PART of num_envs, spac"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake: str) -> None:
    env, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=message) as error:
        check_environment(env)
    assert "\n" not in str(error.value)


def test_a_task_that_cannot_be_made_is_answered_in_one_line() -> None:
    env = a_task(kwargs={"broken": True})
    check_environment(env)
    with pytest.raises(ConfigError, match=r"cannot be made: ValueError: the scene has no robot; change env.kwargs$"):
        made_worlds(env, [1], CPU)


def test_images_are_refused() -> None:
    with installed(("actor", "camera")), pytest.raises(ConfigError, match=r"camera is of shape \(3, 8, 8\)"):
        environment_spaces(a_task())


def test_no_pictures_are_made() -> None:
    with pytest.raises(RenderError, match=r"no video: .* is a task of mjlab's"):
        record_video(Any, a_task(), 0, Any)  # type: ignore[arg-type]


def test_nothing_of_mjlabs_tables_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    made()
    assert not capsys.readouterr().out
