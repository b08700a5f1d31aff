"""Vector environments: `check_environment` before anything heavy is imported, `make_vector_env` to get one."""

from __future__ import annotations

import importlib
import importlib.util
from itertools import pairwise
from typing import Any

import gymnasium

from ppolab.config import EnvConfig, usable_cores
from ppolab.envs import envpool_backend
from ppolab.envs.base import JoinedEnv, Step, VectorEnv
from ppolab.envs.gymnasium_backend import GymnasiumEnv
from ppolab.envs.seeding import EVALUATION, TRAINING, environment_seeds
from ppolab.envs.spaces import ActionMapping, check_spaces
from ppolab.errors import ConfigError, nearest

__all__ = [
    "EVALUATION",
    "TRAINING",
    "Step",
    "VectorEnv",
    "check_environment",
    "choose_backend",
    "environment_seeds",
    "make_vector_env",
]

SHIPPED = ("gymnasium.envs.mujoco", "gymnasium.envs.classic_control")
"""Where the environments live whose spaces are known to be supported; any other is made once to see its own."""


def check_environment(env: EnvConfig) -> None:
    """Raise ConfigError unless the environment exists, can be made, and has supported spaces."""
    spec = registered(env.id)
    entry_point = str(spec.entry_point)
    if entry_point.startswith(SHIPPED) and not env.kwargs:
        if "mujoco" in entry_point and importlib.util.find_spec("mujoco") is None:
            raise ConfigError(f"env.id={env.id}: needs the package mujoco; pip install 'gymnasium[mujoco]'")
    else:
        probe = _make(env)
        check_spaces(env.id, probe.observation_space, probe.action_space)
        probe.close()
    if env.backend == "envpool":
        _check_envpool(env)


def registered(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    """What Gymnasium knows of an environment; raises ConfigError, with the nearest name, if it does not know it."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)  # whose import registers the environment
        return gymnasium.spec(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"env.id={env_id}: the module '{error.name}' cannot be imported; install it or add its folder to PYTHONPATH"
        ) from error
    except Exception as error:  # gymnasium raises its own family, and a user's module may raise anything on import
        hint = nearest(name, gymnasium.registry) or "; a module of your own is named as env.id=my_package:MyEnv-v0"
        raise ConfigError(f"env.id={env_id}: no such registered environment{hint}") from error


def _make(env: EnvConfig) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(env.id, disable_env_checker=True, **env.kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"env.id={env.id}: a package is missing: {error}") from error
    except Exception as error:  # whatever a constructor raises, these arguments do not make an environment
        told = str(error).splitlines()[0] if str(error) else ""
        raise ConfigError(
            f"env.id={env.id} env.kwargs={env.kwargs}: cannot be made: {type(error).__name__}: {told}"
        ) from error


def _check_envpool(env: EnvConfig) -> None:
    if not envpool_backend.is_installed():
        raise ConfigError("env.backend=envpool: the package envpool is not installed; pip install envpool, or use auto")
    if not envpool_backend.has(env.id):
        raise ConfigError(f"env.backend=envpool: EnvPool has no {env.id}; use env.backend=gymnasium")


def choose_backend(env: EnvConfig) -> str:
    """`envpool` or `gymnasium`. `auto` takes EnvPool where it has the id; arguments of env.kwargs are Gymnasium's."""
    if env.backend != "auto":
        return env.backend
    return "envpool" if not env.kwargs and envpool_backend.has(env.id) else "gymnasium"


def action_mapping(env: EnvConfig) -> ActionMapping:
    """From the policy's actions to those of `env`."""
    return ActionMapping(env.rescale_actions, env.squash_actions)


def make_vector_env(env: EnvConfig, seeds: list[int], backend: str) -> VectorEnv:
    """One environment per seed on `backend`; `num_threads` 0 means one thread per core (EnvPool)."""
    if backend == "gymnasium":
        return GymnasiumEnv(
            env.id, env.kwargs, seeds, asynchronous=env.vectorization == "async", mapping=action_mapping(env)
        )
    threads = min(env.num_threads or usable_cores(), len(seeds))
    groups = min(threads, 2)  # while one group simulates, the policy can answer the other
    starts = [index * len(seeds) // groups for index in range(groups + 1)]
    return JoinedEnv(
        [
            envpool_backend.EnvPoolEnv(
                env.id, env.kwargs, seeds[start:end], num_threads=(threads + index) // groups,
                mapping=action_mapping(env), first_index=start,
            )
            for index, (start, end) in enumerate(pairwise(starts))
        ]
    )  # fmt: skip
