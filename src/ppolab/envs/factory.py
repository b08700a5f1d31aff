"""Make vector environments: `check_environment` before anything heavy is imported, then `make_vector_env`."""

from __future__ import annotations

import importlib
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import gymnasium

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_backend, envpool_ids
from ppolab.envs.action_masks import chosen_space, is_wanted, network_space
from ppolab.envs.backend_choice import (
    backend_choice,
    check_envpool,
    check_limit,
    choose_backend,
    differing_spaces,
    evaluation_backend,
    for_evaluation,
    is_as_shipped,
)
from ppolab.envs.choices import with_choices
from ppolab.envs.envpool_arguments import check_arguments
from ppolab.envs.envpool_tasks import LEARNERS_OWN
from ppolab.envs.families import help_for
from ppolab.envs.gymnasium_backend import GymnasiumEnv
from ppolab.envs.joined_env import JoinedEnv
from ppolab.envs.making import made_once
from ppolab.envs.mjlab_choice import check_mjlab, check_task, is_mjlab
from ppolab.envs.seeding import EVALUATION, TRAINING, environment_seeds
from ppolab.envs.spaces import ActionMapping, check_spaces
from ppolab.envs.vector_env import Step, VectorEnv
from ppolab.envs.warp_choice import check_warp
from ppolab.errors import ConfigError, nearest
from ppolab.runtime.cores import usable_cores

if TYPE_CHECKING:
    import torch

__all__ = [
    "EVALUATION",
    "TRAINING",
    "Step",
    "VectorEnv",
    "backend_choice",
    "check_environment",
    "check_new_kwargs",
    "choose_backend",
    "environment_seeds",
    "environment_spaces",
    "evaluation_backend",
    "for_evaluation",
    "make_vector_env",
    "policy_space",
    "seen_space",
]


UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


def check_environment(env: EnvConfig) -> None:
    """Raise ConfigError unless the environment exists, can be made, and has supported spaces."""
    if is_mjlab(env.id):
        check_mjlab(env)
        return
    registered(env.id)
    if env.backend == "warp":
        check_warp(env)
    alone = envpool_ids.has_alone(env.id)
    lack = envpool_ids.gymnasium_lacks(env.id)
    if lack and (env.backend == "gymnasium" or not alone):
        raise ConfigError(f"env.id={env.id}: {lack}")
    if alone or (env.backend == "envpool" and envpool_ids.has(env.id)):
        check_arguments(env)
    if alone:
        check_limit(env)
    if lack or not is_as_shipped(env):
        environment_spaces(env)
    if env.backend == "envpool":
        check_envpool(env)


def environment_spaces(env: EnvConfig) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Return the spaces of one environment's observations and actions, as Gymnasium and the wrappers have them.

    Raises:
        ConfigError: the environment cannot be made, or has spaces that are not supported.
    """
    registered(env.id)
    probe = _make(env)
    check_spaces(env.id, probe.observation_space, probe.action_space)
    seen_space(env, probe.observation_space, probe.action_space)
    probe.close()
    return probe.observation_space, probe.action_space


def seen_space(
    env: EnvConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> gymnasium.Space[Any]:
    """Return the space of what networks see of an observation: all but a mask of actions.

    Raises:
        ConfigError: see `network_space`.
    """
    return network_space(observation_space, action_space) if is_wanted(env) else observation_space


def policy_space(
    env: EnvConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> gymnasium.Space[Any]:
    """Return the space that a policy chooses from, see `ppolab.envs.choices`."""
    return chosen_space(observation_space, action_space) if is_wanted(env) else with_choices(action_space)


def check_new_kwargs(env: EnvConfig, current: VectorEnv) -> None:
    """Raise ConfigError unless the environments `current` can go on as `env` says, with the same spaces.

    Args:
        env: the same environment and backend with other arguments.
    """
    check_environment(env)
    spaces = current.observation_space, current.action_space
    for what, old, new in differing_spaces(spaces, environment_spaces(env)):
        raise ConfigError(f"env.kwargs={env.kwargs}: changes the {what} from {old} to {new}; a policy keeps its spaces")


def registered(env_id: str) -> gymnasium.envs.registration.EnvSpec | None:
    """Return what Gymnasium knows of an environment; None for one that EnvPool alone has, or mjlab.

    Raises:
        ConfigError: it does not know the id; the message has the nearest one.
    """
    if is_mjlab(env_id):
        check_task(env_id)
        return None
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
        if not module and envpool_ids.has(name):
            return None
        raise ConfigError(f"env.id={env_id}: no such registered environment{_hint_at(name, module)}") from error


def _hint_at(name: str, module: str) -> str:
    """Return what may have been meant by an unknown name: of the module where one is named, else of all there are."""
    own = sorted(f"{module}:{each}" for each in gymnasium.registry if module and _is_of(module, each))
    if own:
        if close := nearest(name, [each.removeprefix(f"{module}:") for each in own]):
            return close.replace("'", f"'{module}:", 1)
        return f"; {module} has {', '.join(own[:3])}{' and others' if own[3:] else ''}"
    known = [*gymnasium.registry, *envpool_ids.known_ids()]
    plain = name.rpartition("/")[2]  # EnvPool's ids mostly lack the name of their family
    example = "; a module of your own is named as env.id=my_package:MyEnv-v0"
    return nearest(name, known) or nearest(plain, known) or example


def _is_of(module: str, name: str) -> bool:
    """Return whether an environment of this name is a class of `module`, a package perhaps."""
    entry: Any = gymnasium.registry[name].entry_point
    place = str(getattr(entry, "__module__", str(entry).partition(":")[0]))
    return f"{place}.".startswith(f"{module}.")


def _make(env: EnvConfig) -> gymnasium.Env[Any, Any]:
    try:
        return made_once(env)
    except ConfigError:  # of a wrapper
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(
            f"env.id={env.id}: a package is missing: {_first_line(error)}{envpool_ids.newer_version(env.id)}"
        ) from error
    except Exception as error:  # whatever a constructor raises, these arguments do not make an environment
        hint = help_for(str(error)) if envpool_ids.has_alone(env.id) else envpool_ids.newer_version(env.id)
        told = f"{type(error).__name__}: {_first_line(error)}"
        given = f" env.kwargs={env.kwargs}" if env.kwargs else ""
        if env.kwargs and not hint:
            unknown = UNKNOWN_ARGUMENT.search(told)
            hint = f"; {_instead_of(unknown[1], env.id)}" if unknown else "; change env.kwargs"
        raise ConfigError(f"env.id={env.id}{given}: cannot be made: {told.rstrip('.')}{hint}") from error


def _instead_of(argument: str, env_id: str) -> str:
    """Return what to do about an argument of env.kwargs that an environment does not know."""
    name = env_id.rpartition(":")[2].rpartition("/")[2]  # ale_py:ALE/Pong-v5 is EnvPool's Pong-v5
    if argument in LEARNERS_OWN and envpool_ids.has(name):
        return f"{argument} is an argument of EnvPool's Atari: use env.id={name}, or leave it out"
    return f"leave out env.kwargs.{argument}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""


def action_mapping(env: EnvConfig) -> ActionMapping:
    """Return how the policy's actions become those of `env`."""
    return ActionMapping(env.rescale_actions, env.squash_actions)


def make_vector_env(env: EnvConfig, seeds: list[int], backend: str, device: torch.device | None = None) -> VectorEnv:
    """Make one environment per seed on `backend`. `env.num_threads` 0 means one thread per core (EnvPool).

    Args:
        device: on which mujoco-warp and mjlab simulate; None: the processor.
    """
    if backend == "gymnasium":
        return GymnasiumEnv(env, seeds, mapping=action_mapping(env))
    if backend == "warp":
        from ppolab.envs.warp.backend import WarpEnv  # which imports PyTorch

        return WarpEnv(env, seeds, mapping=action_mapping(env), device=device)
    if backend == "mjlab":
        from ppolab.envs.warp.mjlab_env import MjlabEnv

        return MjlabEnv(env, seeds, mapping=action_mapping(env), device=device)
    threads = min(env.num_threads or usable_cores(), len(seeds))
    groups = min(threads, 2)  # while one group simulates, the policy can answer the other
    starts = [index * len(seeds) // groups for index in range(groups + 1)]
    return JoinedEnv(
        [
            envpool_backend.EnvPoolEnv(
                env.id, env.kwargs, seeds[start:end], num_threads=(threads + index) // groups,
                mapping=action_mapping(env), first_index=start, log_info=env.log_info,
                frame_stack=env.frame_stack, masked=is_wanted(env),
            )
            for index, (start, end) in enumerate(pairwise(starts))
        ]
    )  # fmt: skip
