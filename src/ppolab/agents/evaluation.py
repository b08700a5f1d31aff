"""Play episodes of a policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.agents.policy_actor import PolicyActor
from ppolab.envs.factory import VectorEnv
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic, evaluating
from ppolab.learning.episode_statistics import EpisodeStatistics

log = logging.getLogger(__name__)

Act = Callable[[NDArray[Any], NDArray[np.bool_] | None], NDArray[Any]]
"""(raw rows [N, W], the allowed actions [N, A] or None) -> policy actions [N, ...]."""

MAX_EPISODE_STEPS = 27_000
"""Where an episode is cut off that never ends, in an environment without a time limit; what it has by then counts.

No less than the time limit of Atari.
"""


@dataclass(frozen=True)
class EvalResult:
    """Hold undiscounted, unscaled returns and lengths of whole episodes, or whole games."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes (population)."""
        return float(np.std(self.returns))

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that a run logs."""
        return {
            "eval/return": self.mean,
            "eval/return_std": self.std,
            "eval/length": float(np.mean(self.lengths)),
        }


def evaluate_policy(policy: ActorCritic, env: VectorEnv, native: Actor | None = None) -> EvalResult:
    """Play one deterministic episode in each environment of `env`.

    Args:
        native: computes `policy` faster.
    """
    with evaluating(policy):
        actor = PolicyActor(policy, native)
        return play_episodes(lambda rows, masks: actor(rows, masks=masks), env, actor.forget)


def play_episodes(act: Act, env: VectorEnv, forget: Callable[[NDArray[np.bool_]], None] | None = None) -> EvalResult:
    """Play one episode in each environment of `env`, so that short episodes are not counted more often than long ones.

    Where the learner sees parts of a game, such as lives, an episode is the whole game, and its return the score.

    Args:
        act: chooses the actions.
        forget: told [N] where the next observation is the first of another episode.
    """
    statistics = EpisodeStatistics(env.num_envs, gamma=1.0)
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    waiting = np.ones(env.num_envs, dtype=np.bool_)
    observations = env.reset()
    for _ in range(MAX_EPISODE_STEPS):
        step = env.step(act(observations, env.masks))
        observations = step.observations
        if forget is not None:
            forget(~step.valid)
        ended, over = step.terminated | step.truncated, step.over
        game = step.game and (step.game.rewards[None], step.game.over[None])
        _, finished = statistics.add(step.rewards[None], ended[None], step.valid[None], game)
        for index, episode in zip(np.flatnonzero(over), finished, strict=True):
            if waiting[index]:
                returns[index], lengths[index] = episode.total_reward, episode.length
        waiting &= ~over
        if not waiting.any():
            break
    if waiting.any():
        log.warning(
            "evaluation: %d of %d episodes did not end within %s steps; what they had by then counts",
            waiting.sum(), len(waiting), f"{MAX_EPISODE_STEPS:,}",
        )  # fmt: skip
    unfinished = statistics.unfinished()
    for index in np.flatnonzero(waiting):
        returns[index], lengths[index] = unfinished[index].total_reward, unfinished[index].length
    return EvalResult(returns.tolist(), lengths.tolist())
