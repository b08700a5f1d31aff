"""Make one environment of Gymnasium's as the configuration says, in the user's own wrappers."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids, pool_making
from ppolab.envs.action_masks import ENTRY, is_observed, is_wanted
from ppolab.envs.frame_stack import StackedFrames
from ppolab.envs.mjlab_choice import is_mjlab
from ppolab.envs.mujoco_warnings import log_mujoco_warnings
from ppolab.errors import ConfigError
from ppolab.runtime.user_code import named_object, what_was_raised

EXAMPLE = "env.wrappers=[my_package:MyWrapper]"


def make_env(env: EnvConfig, **further: Any) -> gymnasium.Env[Any, Any]:
    """Make one environment inside the wrappers that `env.wrappers` names, the first of them innermost.

    It is Gymnasium's, or that of EnvPool or mjlab where these alone can make the id.

    Args:
        further: arguments besides those of `env.kwargs`, such as render_mode.

    Raises:
        ConfigError: a wrapper cannot be found, raised when it was made, or gave something else than an environment.
            What `gymnasium.make` raises is passed on.
    """
    wrappers = [(name, named_object(_key(name), name, EXAMPLE)) for name in env.wrappers]
    log_mujoco_warnings(env.id)
    frame_stack = env.frame_stack
    refused = env.backend == "gymnasium" and envpool_ids.gymnasium_lacks(env.id)
    if is_mjlab(env.id):
        from ppolab.envs.warp.mjlab_alone import MjlabAlone  # which imports PyTorch

        made: gymnasium.Env[Any, Any] = MjlabAlone(env)
    elif envpool_ids.has_alone(env.id) and not refused:
        inside = frame_stack is not None and envpool_ids.stacks_itself(env.id)
        stacked = {envpool_ids.STACKS: frame_stack} if inside else {}
        made = pool_making.EnvPoolAlone(env.id, {**env.kwargs, **stacked, **further})
        frame_stack = None if inside else frame_stack
    else:
        made = gymnasium.make(env.id, disable_env_checker=True, **further, **env.kwargs)
    for name, wrapper in wrappers:
        made = _wrapped(made, name, wrapper)
    if not frame_stack:
        return made
    apart = is_wanted(env) and is_observed(made.observation_space, made.action_space)
    return StackedFrames(made, frame_stack, ENTRY if apart else None)


def made_once(env: EnvConfig) -> gymnasium.Env[Any, Any]:
    """Make one environment, to look at it; without Gymnasium's advice on newer versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_env(env)


def _key(name: str) -> str:
    return f"env.wrappers=[{name}]"


def _wrapped(env: gymnasium.Env[Any, Any], spelled: str, wrapper: Any) -> gymnasium.Env[Any, Any]:
    name = spelled.rpartition(":")[2]
    try:
        wrapped = wrapper(env)
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"{_key(spelled)}: {name}(env) raised {what_was_raised(error)}") from error
    if not isinstance(wrapped, gymnasium.Env):
        raise ConfigError(
            f"{_key(spelled)}: {name}(env) must return a gymnasium.Env, not {type(wrapped).__name__}; name a class "
            "derived from gymnasium.Wrapper, or a function that returns one"
        )
    return wrapped
