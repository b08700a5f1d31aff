"""Let MuJoCo's warnings go to the log."""

from __future__ import annotations

import importlib
import logging
import re
import sys

import gymnasium

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[\d.]+")
_told: set[str] = set()
"""Warnings that this process has logged, without their numbers."""


def log_mujoco_warnings(env_id: str) -> None:
    """Let this process log what MuJoCo warns of. Another process that steps an environment does so for itself.

    By itself, MuJoCo prints it, and writes it into MUJOCO_LOG.TXT in the current folder. A handler that is already
    there stays.
    """
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    if spec is not None and str(spec.entry_point).startswith("gymnasium.envs.mujoco."):
        importlib.import_module("mujoco")  # which making the environment imports anyway
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_log_warning)


def _log_warning(text: str) -> None:
    """Log a warning of each kind once in this process; what is outdated in a model's file is its author's concern."""
    kind = NUMBER.sub("", text)
    if kind not in _told:
        _told.add(kind)
        log.log(logging.DEBUG if "deprecated" in text else logging.WARNING, "MuJoCo: %s", text)
