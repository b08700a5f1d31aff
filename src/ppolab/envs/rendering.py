"""Render environments without a screen."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium


def prepare_headless_rendering() -> None:
    """Let MuJoCo and SDL render where there is no display. Must run before mujoco is imported."""
    if sys.platform != "linux" or os.environ.get("DISPLAY"):
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")


def share_envpools_opengl() -> None:
    """Let the MuJoCo inside EnvPool find the library with which EnvPool makes contexts of OpenGL.

    EnvPool's build for Linux brings a copy, which its extensions load for themselves alone; MuJoCo looks for it among
    the symbols of the whole process, and ends the process where it finds none. Must run before the first picture.
    """
    found = importlib.util.find_spec("envpool")
    if sys.platform != "linux" or found is None or found.origin is None:
        return
    for name in ("libGLdispatch", "libEGL"):  # the second needs the first
        for library in (Path(found.origin).parents[1] / "envpool.libs").glob(f"{name}-*"):
            with suppress(OSError):  # it needs what is not there, and so MuJoCo cannot draw
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def prepare_scene(env: gymnasium.Env[Any, Any]) -> None:
    """Let a MuJoCo environment's camera follow the robot, and make drawing cheap; other environments do not change.

    Without shadows, reflections and multisampling a picture takes a twentieth of the time where there is no graphics
    card. Must run before the first picture.
    """
    model = getattr(env.unwrapped, "model", None)
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if model is None or renderer is None:
        return
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.mat_reflectance[:] = 0.0
    cameras = [model.camera(index).name for index in range(model.ncam)]
    if "track" in cameras:
        renderer.camera_id = cameras.index("track")
