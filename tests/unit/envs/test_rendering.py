"""Pictures follow the robot; environments without such a camera, or without MuJoCo, stay as they are."""

from __future__ import annotations

import gymnasium
import pytest

from ppolab.envs.rendering import prepare_scene


def test_the_camera_follows_the_robot_and_shadows_are_off() -> None:
    env = gymnasium.make("Hopper-v5", render_mode="rgb_array")
    prepare_scene(env)
    model = env.unwrapped.model  # type: ignore[attr-defined]
    assert model.camera(env.unwrapped.mujoco_renderer.camera_id).name == "track"  # type: ignore[attr-defined]
    assert model.vis.quality.shadowsize == 0
    env.close()


@pytest.mark.parametrize("env_id", ["Reacher-v5", "CartPole-v1"])
def test_others_keep_their_camera(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array")
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    before = getattr(renderer, "camera_id", None)
    prepare_scene(env)
    assert getattr(renderer, "camera_id", None) == before
    env.close()
