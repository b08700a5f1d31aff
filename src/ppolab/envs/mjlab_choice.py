"""Say what an environment id of the form mjlab:TASK names, and make its configuration, before any worlds are made."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
from dataclasses import fields, is_dataclass
from typing import Any

from ppolab.config.schema import EnvConfig
from ppolab.errors import ConfigError, nearest, spelled

PREFIX = "mjlab:"
OURS = ("seed", "auto_reset", "scene.num_envs")
"""Fields of mjlab's configuration that follow from settings of ppolab's, or that it must keep."""


def is_mjlab(env_id: str) -> bool:
    """Return whether the id names a task of mjlab's."""
    return env_id.startswith(PREFIX)


def check_mjlab(env: EnvConfig) -> None:
    """Raise ConfigError unless mjlab is installed, has the task of `env`, and can do what `env` asks for."""
    if env.backend != "auto":
        raise ConfigError(f"env.backend={env.backend}: mjlab alone simulates env.id={env.id}; leave env.backend out")
    if env.wrappers:
        raise ConfigError(
            f"env.wrappers=[{','.join(env.wrappers)}]: wrap environments of Gymnasium, and {env.id} is none; leave "
            "them out"
        )
    if env.log_info:
        raise ConfigError(f"env.log_info=[{','.join(env.log_info)}]: mjlab's worlds have no info; leave it out")
    configured(env)


def check_task(env_id: str) -> None:
    """Raise ConfigError unless mjlab is installed and has the task of `mjlab:TASK`."""
    if importlib.util.find_spec("mjlab") is None:
        raise ConfigError(
            f"env.id={env_id}: mjlab is not installed; make a Python environment of its own for it, since it needs "
            "another MuJoCo: pip install -e . mjlab==1.6.0 (docs/mjlab.md)"
        )
    tasks = registry().list_tasks()
    name = env_id.removeprefix(PREFIX)
    if name not in tasks:
        meant = nearest(name, tasks).replace("'", f"'{PREFIX}", 1)
        raise ConfigError(f"env.id={env_id}: mjlab has no such task{meant or '; it has ' + ', '.join(tasks)}")


def configured(env: EnvConfig) -> Any:
    """Return mjlab's configuration of the task, changed as `env.kwargs` says.

    Raises:
        ConfigError: there is no such task, or it has no such argument.
    """
    check_task(env.id)
    config = registry().load_env_cfg(env.id.removeprefix(PREFIX))
    for name, value in env.kwargs.items():
        _change(config, name, value, name, env.id)
    return config


def observed_groups(env_id: str) -> tuple[str, ...]:
    """Return the groups of observations that the policy sees, as the task names them for mjlab's own trainer."""
    return tuple(registry().load_rl_cfg(env_id.removeprefix(PREFIX)).obs_groups["actor"])


def registry() -> Any:
    """Return mjlab's module of tasks, when those of mjlab and of installed packages are in it."""
    os.environ.setdefault("MJLAB_WARP_QUIET", "1")  # it would print each kernel that Warp loads
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mjlab.tasks")
        return importlib.import_module("mjlab.tasks.registry")


def _change(holder: Any, name: str, value: Any, path: str, env_id: str) -> None:
    """Set a field of a configuration, or an entry of a dictionary in it; of a dictionary `value` each one."""
    known = holder if isinstance(holder, dict) else {each.name: getattr(holder, each.name) for each in fields(holder)}
    given = f"env.kwargs.{path}={spelled(value)}"
    if path in OURS:
        raise ConfigError(f"{given}: ppolab sets it; leave it out")
    if name not in known:
        raise ConfigError(f"{given}: {env_id} has no such argument{nearest(name, known) or _listed(known)}")
    current = known[name]
    if isinstance(value, dict) and (isinstance(current, dict) or is_dataclass(current)):
        for inner, content in value.items():
            _change(current, inner, content, f"{path}.{inner}", env_id)
        return
    if problem := _problem(value, current):
        raise ConfigError(f"{given}: must be {problem}")
    value = tuple(value) if isinstance(current, tuple) else value
    if isinstance(holder, dict):
        holder[name] = value
    else:
        setattr(holder, name, value)


def _listed(known: Any) -> str:
    return f"; it has {', '.join(map(str, known))}"


def _problem(value: Any, current: Any) -> str:
    """Return what a value must be to stand in for `current`; an empty string if it can."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(current, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(current, int):
        return "" if number and value == int(value) else f"a whole number, such as mjlab's {current}"
    if isinstance(current, float):
        return "" if number else f"a number, such as mjlab's {current}"
    if isinstance(current, str):
        return "" if isinstance(value, str) else f"a text, such as mjlab's {current}"
    if isinstance(current, tuple):
        alike = isinstance(value, list | tuple) and len(value) == len(current)
        return "" if alike else f"a list of {len(current)} values, such as mjlab's {spelled(list(current))}"
    if not (isinstance(current, dict) or is_dataclass(current)):
        return "" if current is None else "left out: it is no plain value"
    parts = current if isinstance(current, dict) else [each.name for each in fields(current)]
    return f"given part by part, as env.kwargs.NAME.PART=VALUE, with a PART of {', '.join(map(str, parts))}"
