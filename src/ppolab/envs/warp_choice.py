"""Say whether mujoco-warp can simulate an environment, before it is imported."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

import gymnasium

from ppolab.config.schema import EnvConfig
from ppolab.errors import ConfigError, nearest, spelled

PACKAGES = {"warp": "warp-lang", "mujoco_warp": "mujoco-warp"}
"""What `pip install 'ppolab[warp]'` installs, by the names of the modules."""
NOT_FOR_USERS = ("render_mode", "kwargs", "observation_space", "model_path")
"""Parameters of Gymnasium's classes that users do not give."""


def check_warp(env: EnvConfig) -> None:
    """Raise ConfigError unless mujoco-warp is installed, has the task of `env`, and knows its arguments."""
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(
            f"env.backend=warp: {' and '.join(missing)} {verb} not installed; pip install 'ppolab[warp]', or use auto"
        )
    tasks = warp_tasks()
    if env.id not in tasks:
        raise ConfigError(f"env.backend=warp env.id={env.id}: {_other(env.id, tasks)}, or env.backend=auto")
    if env.log_info:
        raise ConfigError(
            f"env.log_info=[{','.join(env.log_info)}]: mujoco-warp's worlds have no info; leave it out, or use "
            "env.backend=gymnasium"
        )
    _check_arguments(env, tasks[env.id])


def _other(env_id: str, tasks: Iterable[str]) -> str:
    """Return what may have been meant by an id: a task of nearly the same name, whatever its version."""
    names = {each.partition("-")[0]: each for each in tasks}
    meant = nearest(env_id.partition("-")[0], names)
    if not meant:
        return f"mujoco-warp has {', '.join(names.values())}; use one of these"
    name = meant.split("'")[1]
    return f"mujoco-warp has no such task; use env.id={names[name]}"


def warp_tasks() -> dict[str, Any]:
    """Return the tasks by their ids."""
    return dict(importlib.import_module("ppolab.envs.warp.tasks").TASKS)


def _check_arguments(env: EnvConfig, task: Any) -> None:
    defaults = {field.name: field.default for field in fields(task)}
    known = {*defaults, *_arguments_of_gymnasium(env.id), "max_episode_steps"}
    for name, value in env.kwargs.items():
        given = f"env.kwargs.{name}={spelled(value)}"
        if name not in known:
            meant = nearest(name, known) or f"; it takes {', '.join(sorted(defaults))}"
            raise ConfigError(f"{given}: {env.id} has no such argument{meant}")
        if problem := _problem(value, defaults.get(name, MISSING)):
            raise ConfigError(f"{given}: must be {problem}, such as Gymnasium's {spelled(defaults[name])}")
    limit = env.kwargs.get("max_episode_steps", 1)
    if not _is_number(limit) or limit != int(limit) or limit < 1:
        raise ConfigError(f"env.kwargs.max_episode_steps={spelled(limit)}: must be a whole number of 1 or more")


def _arguments_of_gymnasium(env_id: str) -> set[str]:
    """Return the names that the constructor of Gymnasium's environment takes, with those of rendering."""
    module, _, name = str(gymnasium.spec(env_id).entry_point).partition(":")
    made = getattr(importlib.import_module(module), name)
    classes = [kind for kind in made.__mro__ if "gymnasium.envs.mujoco" in kind.__module__]
    return {name for kind in classes for name in inspect.signature(kind).parameters} - {*NOT_FOR_USERS}


def _problem(value: Any, default: Any) -> str:
    """Return what a value must be to stand in for a default; an empty string if it can."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, float):
        return "" if _is_number(value) else "a number"
    if isinstance(default, tuple):
        two = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
        return "" if two else "two numbers"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
