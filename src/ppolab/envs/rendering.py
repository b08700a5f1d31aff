"""Pictures of an environment without a screen."""

from __future__ import annotations

import ctypes.util
import os
import sys


def prepare_headless_rendering() -> None:
    """Let MuJoCo render through EGL where there is no display. Must run before mujoco is imported, which fixes it."""
    headless = sys.platform == "linux" and not os.environ.get("DISPLAY")
    if headless and ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
