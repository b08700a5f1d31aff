"""Check `env.kwargs` where they are arguments of EnvPool, before EnvPool sees them."""

from __future__ import annotations

from typing import Any

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.envs.families import LEAST
from ppolab.errors import ConfigError, spelled

ANOTHER_TASK = "choose another task by env.id="
NOT_FOR_USERS = {
    "task": ANOTHER_TASK,
    "task_name": ANOTHER_TASK,
    "env_name": ANOTHER_TASK,
    "num_envs": "set num_envs=",
    "batch_size": "set num_envs=",
    "seed": "set seed=",
    "env_seed": "set seed=",
    "num_threads": "set env.num_threads=",
    "env_type": "leave it out",
    "max_num_players": "leave it out",
    "gym_reset_return_info": "leave it out",
    "base_path": "leave it out",  # with another folder, EnvPool ends the process
}
"""Arguments that choose another task under this task's name, or that ppolab gives itself; and what to do instead."""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_arguments(env: EnvConfig) -> None:
    """Raise ConfigError for an argument that is not a user's to give, contradicts a setting, or has a wrong value.

    Names that EnvPool does not know are left to EnvPool, which takes some that its specification does not name.
    """
    defaults = envpool_ids.defaults_of(env.id)
    least = LEAST.get(envpool_ids.family_of(env.id), {})
    for name, value in env.kwargs.items():
        given = f"env.kwargs.{name}={spelled(value)}"
        if name in NOT_FOR_USERS:
            raise ConfigError(f"{given}: follows from env.id and settings of ppolab; {NOT_FOR_USERS[name]}")
        default = defaults.get(name)
        if type(default) in KINDS and not _is_like(value, default):
            example = f"such as EnvPool's {spelled(default)}" if default != "" else "in quotes"
            raise ConfigError(f"{given}: must be {KINDS[type(default)]}, {example}")
        if value is not None and value < least.get(name, value):
            raise ConfigError(
                f"{given}: must be {least[name]} or more, with less EnvPool writes outside of its memory; leave it out"
            )
    stack = env.kwargs.get(envpool_ids.STACKS, env.frame_stack)
    if env.frame_stack is not None and stack != env.frame_stack and envpool_ids.STACKS in defaults:
        raise ConfigError(
            f"env.frame_stack={env.frame_stack}: env.kwargs.{envpool_ids.STACKS}={stack} asks for another number of "
            "frames; leave one of them out"
        )


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value has the type of `default`; a whole number is also a number, and a truth value is none."""
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)
