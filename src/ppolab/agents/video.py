"""Film one episode of a policy."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppolab.agents.evaluation import MAX_EPISODE_STEPS, play_episodes
from ppolab.agents.policy_actor import PolicyActor
from ppolab.config.schema import EnvConfig
from ppolab.envs.action_masks import as_trained, is_wanted
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.envpool_ids import family_of
from ppolab.envs.factory import (
    EVALUATION,
    action_mapping,
    environment_seeds,
    evaluation_backend,
    for_evaluation,
    make_vector_env,
    policy_space,
    seen_space,
)
from ppolab.envs.families import cannot_draw
from ppolab.envs.guarded import Guarded, mask_with
from ppolab.envs.making import make_env
from ppolab.envs.rendering import prepare_scene
from ppolab.envs.seeding import private_generators
from ppolab.envs.spaces import action_decoder, first_action, row_encoder, stacked
from ppolab.errors import PpolabError
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic, evaluating

VIDEO_FPS = 30.0
"""Environments that say more frames a second are filmed with about so many, at their own speed."""
POOL_FPS = 15
"""EnvPool does not tell how many steps are a second; of Atari it is so many, of four frames each."""
MAX_VIDEO_SECONDS = 60


class RenderError(PpolabError):
    """This machine or this environment cannot make pictures."""


def record_video(
    policy: ActorCritic,
    env: EnvConfig,
    seed: int,
    path: Path,
    *,
    native: Actor | None = None,
    deterministic: bool = True,
) -> float:
    """Film one episode to `path` (.mp4), where evaluations are played; return the episode's return.

    It is the first episode of `Agent.evaluate` with this seed; with drawn actions only where that plays one episode.
    The global random generators are as before afterwards.

    Args:
        native: computes `policy` faster.
        deterministic: take the most probable actions.

    Raises:
        RenderError: there is no way to render here; the message names the cause, and `path` is left as it was.
    """
    env = as_trained(env, masked=policy.masked)
    in_pool = evaluation_backend(env) == "envpool"
    if in_pool and (why := cannot_draw(family_of(env.id))):
        raise RenderError(f"no video: {why}")
    unfinished = path.with_name(f".unfinished-{path.name}")
    generator = None if deterministic else torch.Generator().manual_seed(seed)
    (first,) = environment_seeds(seed, 0, 1, EVALUATION)
    film = _film_in_pool if in_pool else _film_in_gymnasium
    try:
        with private_generators(first), evaluating(policy):
            total = film(PolicyActor(policy, native), env, first, unfinished, generator)
        unfinished.replace(path)
    except Exception as error:  # OpenGL, pygame, ffmpeg and user environments each fail in ways of their own
        told = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise RenderError(f"no video: {type(error).__name__}{told}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return total


def _film_in_pool(act: PolicyActor, env: EnvConfig, seed: int, path: Path, generator: torch.Generator | None) -> float:
    """Film what an evaluation in EnvPool plays; return its return."""
    import imageio.v2 as imageio

    drawn = for_evaluation(env)
    drawn = replace(drawn, kwargs={**drawn.kwargs, "render_mode": "rgb_array"})
    shown = itertools.count()
    with closing(make_vector_env(drawn, [seed], "envpool")) as simulator:
        ((_, pool),) = simulator.groups
        assert isinstance(pool, EnvPoolEnv), pool
        with closing(imageio.get_writer(path, fps=POOL_FPS, macro_block_size=2)) as writer:

            def watched(raw: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
                if next(shown) < MAX_VIDEO_SECONDS * POOL_FPS:
                    writer.append_data(pool.picture())
                return act(raw, generator, masks)

            (total,) = play_episodes(watched, simulator, act.forget).returns
            writer.append_data(pool.picture())
    return total


def _film_in_gymnasium(
    act: PolicyActor, env: EnvConfig, seed: int, path: Path, generator: torch.Generator | None
) -> float:
    """Film an episode of an environment that Gymnasium makes; return its return."""
    import imageio.v2 as imageio

    made = make_env(env, render_mode="rgb_array")
    with Guarded(made, env.id, 0, masked=is_wanted(env)) as simulator:
        prepare_scene(simulator)
        native_fps = float(simulator.metadata.get("render_fps") or VIDEO_FPS)
        stride = max(1, round(native_fps / VIDEO_FPS))
        writer = imageio.get_writer(path, fps=native_fps / stride, macro_block_size=2)
        with closing(writer):  # it stays open after an error else, and writes its file later
            total = _film(simulator, act, env, seed, stride, writer, generator)
    return total


def _film(
    simulator: Guarded,
    act: PolicyActor,
    env: EnvConfig,
    seed: int,
    stride: int,
    writer: Any,
    generator: torch.Generator | None,
) -> float:
    """Play one episode; every `stride`-th frame goes to `writer`, and the one after the last step."""
    _, encode = row_encoder(seen_space(env, simulator.observation_space, simulator.action_space))
    chosen_space = policy_space(env, simulator.observation_space, simulator.action_space)
    decode = action_decoder(chosen_space, action_mapping(env))
    observation, info = simulator.reset(seed=seed)
    total, ended, step = 0.0, False, 0
    last_filmed = MAX_VIDEO_SECONDS * VIDEO_FPS * stride
    while not ended and step < MAX_EPISODE_STEPS:
        if step % stride == 0 and step < last_filmed:
            writer.append_data(np.asarray(simulator.render()))
        mask = mask_with(observation, info, simulator) if is_wanted(env) else None
        rows = encode(stacked([observation], simulator.observation_space))
        actions = decode(act(rows, generator, None if mask is None else mask[None]))
        action = first_action(actions, simulator.action_space)
        observation, reward, terminated, truncated, info = simulator.step(action)
        total += float(reward)
        ended = terminated or truncated
        step += 1
    if step < last_filmed:
        writer.append_data(np.asarray(simulator.render()))
    return total
