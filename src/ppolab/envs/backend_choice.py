"""Choose the backend that simulates an environment, and say why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids, pool_making
from ppolab.envs.envpool_tasks import UNLIKE_GYMNASIUM
from ppolab.envs.families import Told, cannot_draw, keeps_limit, told
from ppolab.envs.making import made_once
from ppolab.envs.mjlab_choice import is_mjlab
from ppolab.envs.spaces import named_parts
from ppolab.errors import ConfigError

OWN_TASKS = ("gymnasium.envs.mujoco", "gymnasium.envs.classic_control")
"""Where Gymnasium's tasks lie that both backends simulate."""


Spaces = tuple[spaces.Space[Any], spaces.Space[Any]]
"""Of observations and of actions."""


@dataclass(frozen=True)
class BackendChoice:
    """A backend's name, and what a user should know about the choice and the task, a line each.

    Attributes:
        warnings: what changes the meaning of a run's results.
    """

    name: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_backend(env: EnvConfig) -> str:
    """Return `envpool`, `gymnasium`, `warp` or `mjlab`; see `backend_choice`."""
    return backend_choice(env).name


def backend_choice(env: EnvConfig) -> BackendChoice:
    """Return the backend of `env`.

    `auto` takes EnvPool where it has the id, with the same spaces, and no arguments are given: those of env.kwargs are
    Gymnasium's. It never takes mujoco-warp.
    """
    name, notes = _chosen(env)
    if name == "envpool" or envpool_ids.has_alone(env.id):
        about = told(envpool_ids.family_of(env.id), env.id, env.kwargs)
    else:
        about = Told()
    return BackendChoice(name, (*notes, *about.notes), about.warnings)


def _chosen(env: EnvConfig) -> tuple[str, tuple[str, ...]]:
    """Return the name of the backend, and why it is chosen."""
    if is_mjlab(env.id):
        alone = f"{env.id}: mjlab alone has it, so mjlab also plays the evaluations, and there is no video"
        return "mjlab", (alone, f"{env.id}: at the first start Warp compiles mjlab's kernels, which takes minutes")
    if env.backend == "warp":
        return "warp", ()
    if envpool_ids.has_alone(env.id):
        return _chosen_alone(env)
    if env.backend == "gymnasium":
        return "gymnasium", ()
    if env.backend == "envpool":
        differs = UNLIKE_GYMNASIUM.get(env.id)
        notes = [f"{env.id}: {differs}; ppolab evaluates in Gymnasium, whose returns differ"] if differs else []
        return "envpool", tuple(notes)
    if problem := _envpool_problem(env):
        spoken = is_own_task(env.id)  # EnvPool would most likely have it
        return "gymnasium", (f"{env.id}: {problem}",) if spoken else ()
    if not envpool_ids.has(env.id):
        return "gymnasium", ()
    if differs := UNLIKE_GYMNASIUM.get(env.id) or space_difference(env):
        return "gymnasium", (f"{env.id}: Gymnasium simulates it, since {differs}",)
    return "envpool", ()


def _chosen_alone(env: EnvConfig) -> tuple[str, tuple[str, ...]]:
    lack = envpool_ids.gymnasium_lacks(env.id)
    why = f"{lack.replace('; ', ' (', 1)})" if lack else "EnvPool alone has it"
    unseen = ", and there is no video" if cannot_draw(envpool_ids.family_of(env.id)) else ""
    if env.wrappers or env.backend == "gymnasium":
        what = "env.wrappers wrap" if env.wrappers else "env.backend=gymnasium steps"
        slow = f"{what} EnvPool's environments one by one, which is slower"
        return "gymnasium", (f"{env.id}: {why}, and {slow}{'' if env.wrappers else unseen}",)  # a wrapper may draw
    return "envpool", (f"{env.id}: {why}, so EnvPool also plays the evaluations{unseen}",)


def for_evaluation(env: EnvConfig) -> EnvConfig:
    """Return `env` as an evaluation has it: on the processor, for its few episodes, where mujoco-warp trains.

    All else stays as in training. Where the learner sees lives or clipped rewards, `Step.game` tells of whole games and
    their own score; after a lost life EnvPool's reset presses FIRE, without which many games stand still, and the
    policy never had to.
    """
    return replace(env, backend="auto") if env.backend == "warp" else env


def evaluation_backend(env: EnvConfig) -> str:
    """Return what plays the episodes of an evaluation: Gymnasium, whose environments are the reference, if it can."""
    if is_mjlab(env.id):
        return "mjlab"
    in_pool = env.backend != "gymnasium" and not env.wrappers and envpool_ids.has_alone(env.id)
    return "envpool" if in_pool else "gymnasium"


def _envpool_problem(env: EnvConfig) -> str:
    if not envpool_ids.is_installed():
        return (
            "EnvPool is not installed, so Gymnasium simulates it, which is slower; pip install envpool helps where it "
            "has a build for this platform"
        )
    if env.wrappers:
        return "Gymnasium simulates it, which is slower, since env.wrappers wrap environments of Gymnasium"
    if env.kwargs:
        return "Gymnasium simulates it, which is slower, since EnvPool may not know the arguments of env.kwargs"
    if problem := envpool_ids.import_problem(env.id):
        return f"EnvPool cannot be imported ({problem}), so Gymnasium simulates it, which is slower"
    return ""


def is_own_task(env_id: str) -> bool:
    """Return whether `env_id` is one of Gymnasium's own that both backends simulate."""
    if ":" in env_id or env_id not in gymnasium.registry:  # this rank may not have imported a user's own module yet
        return False
    return str(gymnasium.spec(env_id).entry_point).startswith(OWN_TASKS)


def is_well_known(env_id: str) -> bool:
    """Return whether the task's spaces are known to be supported and the same in both backends.

    Older versions of the MuJoCo tasks are left out: some of them cannot be made with a current MuJoCo.
    """
    if not is_own_task(env_id):
        return False
    return "mujoco" not in str(gymnasium.spec(env_id).entry_point) or env_id.endswith("-v5")


def is_as_shipped(env: EnvConfig) -> bool:
    """Return whether `env` is a task of `is_well_known` without arguments and wrappers."""
    return not env.kwargs and not env.wrappers and is_well_known(env.id)


def space_difference(env: EnvConfig) -> str:
    """Return how EnvPool's spaces differ from Gymnasium's; an empty string where they are the same."""
    if is_as_shipped(env):
        return ""
    probe = made_once(replace(env, frame_stack=None))
    ours = pool_making.pool_spaces(env.id, env.kwargs)
    probe.close()
    differences = differing_spaces(ours, (probe.observation_space, probe.action_space))
    told = [f"{what} {mine}, Gymnasium's {other}" for what, mine, other in differences]
    return f"EnvPool's has the {' and the '.join(told)}" if told else ""


def differing_spaces(ours: Spaces, theirs: Spaces) -> list[tuple[str, spaces.Space[Any], spaces.Space[Any]]]:
    """Return what a policy could not do in both: ("observations" or "actions", our space, their space)."""
    (seen, taken), (seen_there, taken_there) = ours, theirs
    found = []
    if not _alike(seen, seen_there):
        found.append(("observations", seen, seen_there))
    if not (_alike(taken, taken_there) and _same_bounds(taken, taken_there)):
        found.append(("actions", taken, taken_there))
    return found


def _alike(ours: spaces.Space[Any], theirs: spaces.Space[Any]) -> bool:
    """Return whether two spaces have the same structure; precision may differ, and EnvPool's bounds are rough."""
    if isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box):
        return ours.shape == theirs.shape
    if isinstance(ours, spaces.Discrete) and isinstance(theirs, spaces.Discrete):
        return bool(ours.n == theirs.n and ours.start == theirs.start)
    if isinstance(ours, spaces.Tuple) and isinstance(theirs, spaces.Tuple):
        return len(ours) == len(theirs) and all(map(_alike, ours.spaces, theirs.spaces))
    if isinstance(ours, spaces.Dict) and isinstance(theirs, spaces.Dict):
        mine, others = ours.spaces, theirs.spaces
        return list(mine) == list(others) and all(_alike(mine[key], others[key]) for key in mine)
    return ours == theirs


def _same_bounds(ours: spaces.Space[Any], theirs: spaces.Space[Any]) -> bool:
    """Return whether actions in [-1, 1] are mapped onto the same ranges, in two spaces that are alike."""
    pairs = zip(named_parts(ours), named_parts(theirs), strict=True)
    return all(
        np.allclose(mine.low, other.low) and np.allclose(mine.high, other.high)
        for (_, mine), (_, other) in pairs
        if isinstance(mine, spaces.Box) and isinstance(other, spaces.Box)
    )


def check_envpool(env: EnvConfig) -> None:
    """Raise ConfigError unless EnvPool can simulate `env`, and Gymnasium could evaluate its policy."""
    if not envpool_ids.is_installed():
        raise ConfigError("env.backend=envpool: the package envpool is not installed; pip install envpool, or use auto")
    if problem := envpool_ids.import_problem(env.id):
        raise ConfigError(
            f"env.backend=envpool: the package envpool cannot be imported ({problem}); mend it, or use auto"
        )
    if not envpool_ids.has(env.id):
        raise ConfigError(f"env.backend=envpool: EnvPool has no {env.id}; use env.backend=gymnasium")
    if envpool_ids.has_alone(env.id):
        return  # `check_limit` has been called
    if differs := space_difference(env):
        raise ConfigError(f"env.backend=envpool env.id={env.id}: {differs}; use env.backend=gymnasium")
    check_limit(env)


def check_limit(env: EnvConfig) -> None:
    """Raise ConfigError unless EnvPool ends episodes at the time limit that env.kwargs gives, if it gives one."""
    limit = env.kwargs.get("max_episode_steps", 1)
    other = "leave it out" if envpool_ids.has_alone(env.id) else "use env.backend=gymnasium"
    if not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"env.kwargs={env.kwargs}: max_episode_steps must be 1 or more; or {other}")
    if "max_episode_steps" in env.kwargs and not keeps_limit(envpool_ids.family_of(env.id), env.id):
        raise ConfigError(f"env.kwargs={env.kwargs}: EnvPool's {env.id} ignores max_episode_steps; {other}")
