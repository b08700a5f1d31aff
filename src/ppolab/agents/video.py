"""Film one episode of a policy."""

from __future__ import annotations

from pathlib import Path

import torch

from ppolab.agents.filming import Player, film
from ppolab.agents.filming_apart import NotDrawn, film_apart
from ppolab.agents.policy_actor import PolicyActor
from ppolab.config.schema import EnvConfig
from ppolab.envs.action_masks import as_trained
from ppolab.envs.envpool_ids import family_of, has_alone
from ppolab.envs.factory import EVALUATION, environment_seeds, for_evaluation
from ppolab.envs.families import cannot_draw, is_drawn_apart
from ppolab.envs.mjlab_choice import is_mjlab
from ppolab.envs.seeding import private_generators
from ppolab.errors import PpolabError
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic, evaluating


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
    if is_mjlab(env.id):
        raise RenderError(f"no video: {env.id} is a task of mjlab's, which ppolab does not draw")
    played = for_evaluation(as_trained(env, masked=policy.masked))
    family = family_of(played.id) if has_alone(played.id) else ""
    if not played.wrappers and (why := cannot_draw(family)):  # a wrapper may draw
        raise RenderError(f"no video: {why}")
    unfinished = path.with_name(f".unfinished-{path.name}")
    generator = None if deterministic else torch.Generator().manual_seed(seed)
    (first,) = environment_seeds(seed, 0, 1, EVALUATION)
    actor = PolicyActor(policy, native)
    player = Player(lambda rows, masks: actor(rows, generator, masks), actor.forget)
    filmed = film_apart if is_drawn_apart(family) else film
    try:
        with private_generators(first), evaluating(policy):
            total = filmed(player, played, first, unfinished)
        unfinished.replace(path)
    except NotDrawn as error:
        raise RenderError(f"no video: {error}") from error
    except Exception as error:  # OpenGL, pygame, ffmpeg and user environments each fail in ways of their own
        told = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise RenderError(f"no video: {type(error).__name__}{told}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return total
