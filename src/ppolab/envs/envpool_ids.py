"""Say what EnvPool has, and what Gymnasium lacks."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import gymnasium

from ppolab.envs.envpool_import import imported_envpool, quiet
from ppolab.envs.envpool_tasks import GAME_INFO, LEARNERS_OWN

INFO_KEYS = "info:"
"""What the names of a pool's info entries begin with, as its C++ code has them."""
STACKS = "stack_num"
"""EnvPool's argument for the number of observations that are seen together."""
GYMNASIUM_NEEDS = {
    "gymnasium.envs.box2d": ("Box2D", "pip install 'gymnasium[box2d]'"),
    "gymnasium.envs.mujoco": ("mujoco", "pip install 'gymnasium[mujoco]'"),
    "gymnasium.envs.phys2d": ("jax", "pip install 'gymnasium[jax]'"),
    "gymnasium.envs.tabular": ("jax", "pip install 'gymnasium[jax]'"),
}
"""What Gymnasium's own tasks import, by the module they lie in, and how to install it."""
FOR_AN_OLD_MUJOCO = ("Pusher-v4",)
"""Tasks that Gymnasium cannot make with MuJoCo 3 or later."""


def is_installed() -> bool:
    """Return whether a package of this name is installed."""
    return importlib.util.find_spec("envpool") is not None


@cache
def import_problem(env_id: str = "") -> str:
    """Return why EnvPool, which is installed, or its family of `env_id` cannot be imported; "" where they can."""
    try:
        with quiet():
            if env_id in package().list_all_envs():
                importlib.import_module(f"envpool.{family_of(env_id)}")
    except Exception as error:  # its libraries in C++ fail in ways of their own
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


@cache
def package() -> ModuleType:
    """Return EnvPool, which is imported the first time, without the libraries of its families."""
    return imported_envpool()


def has(env_id: str) -> bool:
    """Return whether EnvPool can be used and has an environment of this id."""
    return is_installed() and not import_problem() and env_id in package().list_all_envs()


def has_alone(env_id: str) -> bool:
    """Return whether EnvPool can make this id, and Gymnasium cannot."""
    unknown = ":" not in env_id and env_id not in gymnasium.registry
    return (unknown or bool(gymnasium_lacks(env_id))) and has(env_id)


def gymnasium_lacks(env_id: str) -> str:
    """Return why Gymnasium cannot make a task of its own, and what helps; an empty string where it seems to be able to.

    Modules are only looked for: to import them takes seconds.
    """
    if ":" in env_id or env_id not in gymnasium.registry:
        return ""
    if env_id in FOR_AN_OLD_MUJOCO and importlib.util.find_spec("mujoco"):
        return f"needs mujoco<3 in Gymnasium{newer_version(env_id)}"
    entry = gymnasium.spec(env_id).entry_point
    if not isinstance(entry, str):  # a function that raises stands for the old versions of the MuJoCo tasks
        gone = str(getattr(entry, "__module__", "")).startswith("gymnasium.")
        return f"is no longer in Gymnasium{newer_version(env_id)}" if gone else ""
    package, install = GYMNASIUM_NEEDS.get(".".join(entry.split(".")[:3]), ("", ""))
    missing = package and importlib.util.find_spec(package) is None
    return f"needs the package {package} in Gymnasium; {install}" if missing else ""


def newer_version(env_id: str) -> str:
    """Return a hint at the newest registered version of an environment, if that is another one."""
    name = env_id.rpartition(":")[2]
    if name not in gymnasium.registry:  # EnvPool alone has it
        return ""
    spec = gymnasium.spec(name)
    versions = [
        other.version
        for other in gymnasium.registry.values()
        if (other.namespace, other.name) == (spec.namespace, spec.name) and other.version is not None
    ]
    newest = max(versions, default=None)
    return f"; use {spec.id.rpartition('-v')[0]}-v{newest}" if newest and newest != spec.version else ""


def family_of(env_id: str) -> str:
    """Return the family of an id that EnvPool has, such as `mujoco.dmc`."""
    return str(package().registration.registry.specs[env_id][0]).removeprefix("envpool.")


def known_ids() -> list[str]:
    """Return all ids of EnvPool; none where it cannot be used."""
    return list(package().list_all_envs()) if is_installed() and not import_problem() else []


def stacks_itself(env_id: str) -> bool:
    """Return whether EnvPool's environment stacks observations by an argument of its own, as Atari does."""
    return STACKS in defaults_of(env_id)


def defaults_of(env_id: str) -> dict[str, Any]:
    """Return the arguments of EnvPool's environment that its specification names, with their defaults.

    The specification itself is not made: that of VizdoomCustom-v1 needs files that only the arguments name.
    """
    module, name, of_task = package().registration.registry.specs[env_id]
    specification = getattr(importlib.import_module(module), name)
    return dict(specification.gen_config(**of_task)._asdict())


def game_info(pool: Any) -> tuple[str, ...]:
    """Return the entries of the pool's info that tell score and end of a game; none where the pool does so itself."""
    changed = any(getattr(pool.spec.config, argument, False) for argument in LEARNERS_OWN)
    there = {f"{INFO_KEYS}{name}" for name in GAME_INFO} <= set(pool._state_keys)
    return GAME_INFO if changed and there else ()
