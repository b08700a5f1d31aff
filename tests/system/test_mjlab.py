"""Tasks of mjlab itself, where it is installed: it needs another MuJoCo than the other tests (docs/mjlab.md)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from resumed_runs import assert_the_same_run, killed_run, whole_run

from ppolab.config.schema import EnvConfig
from ppolab.envs.warp.mjlab_env import made_worlds
from ppolab.envs.warp.mjlab_worlds import MjlabWorlds

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mjlab") is None, reason="mjlab is not installed here"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),  # mjlab's own use
]

CPU = torch.device("cpu")
CARTPOLE = "mjlab:Mjlab-Cartpole-Balance"
LIMIT = 40  # steps of 0.05 s


def made(env_id: str, seed: int, worlds: int = 3, **kwargs: object) -> tuple[MjlabWorlds, int]:
    found, (_, actions) = made_worlds(EnvConfig(id=env_id, kwargs=kwargs), [seed] * worlds, CPU)
    assert actions.shape is not None
    return found, actions.shape[0]


def test_a_time_limit_gives_the_final_observation_and_then_the_first_one() -> None:
    worlds, _ = made(CARTPOLE, 1, episode_length_s=LIMIT * 0.05)
    assert worlds.longest == LIMIT
    first = worlds.reset().clone()
    push = torch.ones(3, 1)
    steps = [worlds.step(push) for _ in range(LIMIT + 2)]
    assert not any(step.truncated.any() for step in steps[: LIMIT - 1])
    before, final, begun, after = steps[LIMIT - 2 :]
    assert final.truncated.all() and not final.terminated.any() and final.valid.all()
    apart = (final.observations - before.observations).abs().max(), (final.observations - first).abs().max()
    assert apart[0] < 2.0 < apart[1], "it is of where the pushed cart was by then"
    assert not begun.valid.any() and (begun.rewards == 0).all()
    assert (begun.observations[:, 0].abs() <= 0.1).all() and (begun.observations[:, 3:].abs() <= 0.011).all()
    assert after.valid.all()


@pytest.mark.parametrize("env_id", [CARTPOLE, "mjlab:Mjlab-Velocity-Flat-Unitree-Go1"])
def test_restored_worlds_go_on_as_the_others_did(env_id: str) -> None:
    worlds, width = made(env_id, 1)
    worlds.reset()
    generator = torch.Generator().manual_seed(0)
    taken = [torch.randn(3, width, generator=generator) for _ in range(60)]
    for actions in taken[:30]:
        worlds.step(actions)
    state = worlds.state()
    expected = [worlds.step(actions) for actions in taken[30:]]
    others, _ = made(env_id, 2)
    others.reset()
    others.restore(state)
    for actions, was in zip(taken[30:], expected, strict=True):
        for value, before in zip(others.step(actions), was, strict=True):
            torch.testing.assert_close(value, before, rtol=0, atol=0)


def test_a_killed_run_resumes_as_itself(tmp_path: Path) -> None:
    settings = (f"env.id={CARTPOLE}", "env.kwargs.episode_length_s=2", "num_envs=32", "epochs=2", "compile=false")
    whole = whole_run(tmp_path / "whole", *settings)
    killed = killed_run(tmp_path / "killed", 0, *settings)
    assert_the_same_run(whole, killed)
    assert f"{CARTPOLE} on mjlab" in (whole / "train.log").read_text()
