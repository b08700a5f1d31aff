"""Hold what a rollout collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from operator import itemgetter

from torch import Tensor

from ppolab.core.moments import Moments, merged
from ppolab.learning.stacked_images import StackedImages
from ppolab.runtime.process_group import ALONE, ProcessGroup


@dataclass(frozen=True)
class Episode:
    """A finished training episode, or whole game: the sum of its unscaled rewards, and its number of steps.

    Attributes:
        info: what `env.log_info` names, as far as the episode had it.
    """

    total_reward: float
    length: int
    info: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Memories:
    """What a policy with memory held in a rollout.

    Attributes:
        states: [C, K, N, H] before the rows at which the C sequences of each environment begin.
        starts: [T+1, N] bool, where the observation is the first of an episode, before which the state is 0. False in
            the first row, whose state is known.
    """

    states: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, time-major.

    Attributes:
        observations: [T+1, N, W] normalised, as the policy saw them; the last row is what follows the last action.
            Images may lie in memory that the next rollout fills anew.
        actions: [T, N, ...].
        parameters: [T, N, P] of the distributions that they were drawn from; where actions are masked, these are masked
            logits (`ppolab.core.masks`).
        log_probs: [T, N] of the actions under the collecting policy.
        values: [T+1, N] of the collecting policy's critic.
        rewards: [T, N] unscaled.
        terminated, truncated: [T, N] bool.
        valid: [T, N] bool; False on rows that only reset an environment.
        observation_moments: of the valid rows' unscaled observations.
        return_moments: of the discounted sums of rewards so far, on which reward scaling rests.
        episodes: those that ended in this rollout.
        over: [T, N] bool, where they ended, if they are whole games of which the learner sees parts; else None.
        memories: of a policy with memory; else None.
    """

    observations: Tensor | StackedImages
    actions: Tensor
    parameters: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    observation_moments: Moments
    return_moments: Moments
    episodes: list[Episode]
    over: Tensor | None = None
    memories: Memories | None = None


@dataclass(frozen=True)
class Totals:
    """Sums and unions over the rollouts of all processes. num_steps: environment steps, which are the valid rows."""

    num_steps: int
    observation_moments: Moments
    return_moments: Moments
    episodes: list[Episode]


def totals(rollout: Rollout, group: ProcessGroup = ALONE) -> Totals:
    """Return the totals over all processes, in the order that one process with all environments would have found."""
    over = rollout.terminated | rollout.truncated if rollout.over is None else rollout.over
    ended = over.sum(1).tolist()  # `episodes` are in the order of their ends
    ends = [t for t, count in enumerate(ended) for _ in range(count)]
    mine = (
        int(rollout.valid.sum()), rollout.observation_moments, rollout.return_moments,
        list(zip(ends, rollout.episodes, strict=True)),
    )  # fmt: skip
    steps, observations, returns, episodes = zip(*group.all_gather(mine), strict=True)
    in_order = sorted(chain(*episodes), key=itemgetter(0))
    return Totals(
        sum(steps), reduce(merged, observations), reduce(merged, returns), [episode for _, episode in in_order]
    )
