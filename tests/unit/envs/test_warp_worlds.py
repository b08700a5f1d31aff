"""Episodes of many worlds: how they end, begin and are stored, with a simulator that only adds up actions."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from ppolab.config.schema import EnvConfig
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.warp.backend import WarpEnv
from ppolab.envs.warp.draws import Draws
from ppolab.envs.warp.scene import SEEN, Beginning, Moved, Outcome, Scene, Task
from ppolab.envs.warp.worlds import Worlds

WORLDS = 3


class Adding:
    """Worlds of one position, which moves by the action; `derived` counts how often it was asked to derive."""

    def __init__(self) -> None:
        shapes = {"cfrc_ext": (WORLDS, 1, 6), "xpos": (WORLDS, 1, 3)}
        seen = {name: torch.zeros(shapes.get(name, (WORLDS, 1))) for name in SEEN}
        self.scene = Scene(**seen, body_mass=torch.ones(1), bodies={"body": 0})
        self.state = {
            "qpos": self.scene.qpos, "qvel": self.scene.qvel, "act": torch.zeros(WORLDS, 0),
            "qacc_warmstart": torch.zeros(WORLDS, 1), "time": torch.zeros(WORLDS),
        }  # fmt: skip
        self.overflow = torch.zeros(WORLDS, dtype=torch.int32)
        self.rest = Beginning(torch.full((1, 1), 10.0), torch.zeros(1, 1))
        self.seconds = 0.5
        self.derived = 0

    def step(self) -> None:
        self.scene.qpos.add_(self.scene.ctrl)
        self.scene.cfrc_ext.fill_(7.0)
        self.state["qacc_warmstart"] += 1.0
        self.state["time"] += self.seconds

    def derive(self) -> None:
        self.derived += 1
        self.scene.xpos[:, :, 0] = self.scene.qpos


@dataclass(frozen=True)
class Moving(Task):
    """Reward: the velocity. It ends at 20, or beyond."""

    contacts = 0
    rows = 0
    begins_derived = True

    def place(self, scene: Scene) -> Tensor:
        return scene.qpos

    def observation(self, scene: Scene) -> Tensor:
        return torch.cat((scene.qpos, scene.cfrc_ext[:, :, 0]), 1)

    def outcome(self, scene: Scene, moved: Moved) -> Outcome:
        return Outcome(moved.x_velocity, scene.qpos[:, 0] >= 20.0)

    def beginning(self, draws: Draws, rest: Beginning) -> Beginning:
        return Beginning(rest.qpos + draws.uniform(1, -1.0, 1.0), rest.qvel.expand(WORLDS, -1))


def made(longest: int | None = 100) -> tuple[Worlds, Adding]:
    adding = Adding()
    return Worlds(Moving(), adding, [1, 2, 3], longest), adding


def actions(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def test_a_step_rewards_what_the_action_moved() -> None:
    worlds, _ = made()
    first = worlds.reset().clone()
    assert len(set(first[:, 0].tolist())) == WORLDS and (first[:, 0] - 10).abs().max() < 1
    step = worlds.step(actions(1.0, -1.0, 2.0))
    torch.testing.assert_close(step.rewards, torch.tensor([2.0, -2.0, 4.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(step.observations[:, 0], first[:, 0] + torch.tensor([1.0, -1.0, 2.0]))
    assert not (step.terminated | step.truncated | step.diverged).any()


def test_the_step_after_an_end_only_begins_anew() -> None:
    worlds, adding = made()
    worlds.reset()
    ended = worlds.step(actions(0.0, 15.0, 1.0))
    assert ended.terminated.tolist() == [False, True, False] and ended.observations[1, 0] > 20
    state = {name: tensor.clone() for name, tensor in adding.state.items()}
    step = worlds.step(actions(1.0, 5.0, 1.0))
    assert step.rewards.tolist()[1] == 0.0 and (step.rewards[[0, 2]] > 1.9).all()
    assert not (step.terminated | step.truncated).any()
    assert (step.observations[1, 0] - 10).abs() < 1, "the action must not move it"
    assert step.observations[:, 1].tolist() == [7.0, 0.0, 7.0], "forces of the world that began are none"
    assert adding.state["time"].tolist() == [1.0, 0.0, 1.0]
    assert adding.state["qacc_warmstart"].tolist() == [[state["qacc_warmstart"][0, 0] + 1], [0.0], [2.0]]
    then = worlds.step(actions(0.0, 3.0, 0.0))
    torch.testing.assert_close(then.rewards[1], torch.tensor(6.0), rtol=0, atol=1e-5)


def test_a_time_limit_truncates_and_a_failure_on_the_last_step_is_both() -> None:
    worlds, _ = made(longest=2)
    worlds.reset()
    assert not worlds.step(actions(0.0, 0.0, 0.0)).truncated.any()
    last = worlds.step(actions(0.0, 15.0, 0.0))
    assert last.truncated.all() and last.terminated.tolist() == [False, True, False]
    assert not worlds.step(actions(0.0, 0.0, 0.0)).truncated.any()
    assert not worlds.step(actions(0.0, 0.0, 0.0)).truncated.any()
    assert worlds.step(actions(0.0, 0.0, 0.0)).truncated.all()
    endless, _ = made(longest=None)
    endless.reset()
    assert not any(endless.step(actions(0.0, 0.0, 0.0)).truncated.any() for _ in range(200))


def test_a_world_that_diverges_ends_with_its_last_finite_observation() -> None:
    worlds, _ = made()
    before = worlds.reset().clone()
    step = worlds.step(actions(1.0, float("nan"), 1.0))
    assert step.diverged.tolist() == step.terminated.tolist() == [False, True, False]
    assert step.rewards[1] == 0 and torch.equal(step.observations[1], before[1])
    after = worlds.step(actions(0.0, 0.0, 0.0))
    assert after.observations.isfinite().all() and not after.diverged.any()


def test_worlds_begin_anew_by_themselves() -> None:
    """What a world draws does not depend on what the others do."""
    one, _ = made()
    other, _ = made()
    assert torch.equal(one.reset(), other.reset())
    one.reset(torch.tensor([True, False, False]))
    assert torch.equal(one.reset()[1:], other.reset()[1:])
    assert not torch.equal(one.reset()[0], other.reset()[0])


def test_stored_worlds_go_on_as_they_would_have() -> None:
    worlds, _ = made(longest=5)
    worlds.reset()
    for _ in range(3):
        worlds.step(actions(0.5, 6.0, 1.0))
    stored = worlds.state()
    goes_on = [worlds.step(actions(0.5, 6.0, 1.0)) for _ in range(7)]
    other, _ = made(longest=5)
    other.reset()
    other.restore(stored)
    for expected in goes_on:
        step = other.step(actions(0.5, 6.0, 1.0))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(step, expected, strict=True))


def test_nothing_is_derived_while_no_episode_begins() -> None:
    worlds, adding = made()
    worlds.reset()
    assert adding.derived == 1
    worlds.step(actions(0.0, 15.0, 0.0))
    assert adding.derived == 1
    worlds.step(actions(0.0, 0.0, 0.0))
    assert adding.derived == 2


def test_the_time_limit_is_of_a_step_and_not_of_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,))
    monkeypatch.setattr(WarpEnv, "_made", lambda *_: (made()[0], spaces))
    env = WarpEnv(EnvConfig(id="Hopper-v5", backend="warp"), [1, 2, 3], mapping=ActionMapping(True, False))
    env.reset()
    for now in (5.0, 6.0):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        if now == 5.0:
            env.begin_tensors()
        env.step_tensors(actions(0.0, 0.0, 0.0))
        assert env.waiting_since == now
    env.close()
