"""Compare an exported policy with the policy that it was made from, on observations of a real environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.agents.agent import Agent
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.envs.action_masks import Flags, is_observed
from ppolab.envs.guarded import Guarded, mask_with
from ppolab.envs.making import make_env
from ppolab.envs.seeding import private_generators
from ppolab.envs.spaces import first_action, named_parts, parts_of, stacked
from ppolab.errors import ExportError

OBSERVATIONS = 1000
"""How many observations are compared."""
BATCHES = (1, 64, OBSERVATIONS)
"""Sizes of the batches in which they are: a product of matrices adds up in another order for each size."""
TOLERANCE = 1e-4
"""The greatest difference of a float32 action, in units of 1, of half its range, or of itself, whichever is largest.

Rounding in a network of a few layers makes about 1e-6 of it; an error in what is computed makes far more.
"""
TIES = 0.002
"""The share of whole numbers that may differ: rounding turns a tie between two actions, which are equally good then."""

Play = Callable[[Any, Flags | None], Any]
"""A function from a batch of raw observations, and the allowed actions [N, A] of each, to a batch of actions."""


@dataclass(frozen=True)
class Comparison:
    """What comparing has found.

    Attributes:
        greatest_difference: between two actions, over all components and batch sizes.
        observations: how many were compared.
    """

    greatest_difference: float
    observations: int


def compare(trained: TrainedPolicy, exported: Play, count: int = OBSERVATIONS) -> Comparison:
    """Play `count` steps in Gymnasium's environment with the policy, and compare its actions with the exported one's.

    Raises:
        ExportError: they differ by more than rounding.
        EnvError: the environment raised.
    """
    policy = _as_play(Agent(trained), masked=trained.policy.masked)
    observations, masks = _played_observations(trained, policy, count)
    greatest = 0.0
    for size in BATCHES:
        for first in range(0, count, size):
            batch = stacked(observations[first : first + size], trained.observation_space)
            allowed = None if masks is None else masks[first : first + size]
            answers = policy(batch, allowed), exported(batch, allowed)
            both = [parts_of(each, trained.action_space) for each in answers]
            for expected, seen, (_, part) in zip(*both, named_parts(trained.action_space), strict=True):
                greatest = max(greatest, _difference(expected, seen, part))
    return Comparison(greatest, count)


def _as_play(agent: Agent, *, masked: bool) -> Play:
    """Return `Agent.act` with masks, which it finds itself where they are in the observation."""
    observed = masked and is_observed(agent.observation_space, agent.action_space)
    return lambda batch, masks: agent.act(batch, action_mask=None if observed else masks)


def _played_observations(trained: TrainedPolicy, policy: Play, count: int) -> tuple[list[Any], Flags | None]:
    """Return observations, and the masks [count, A] of a policy that has them."""
    env, masked = trained.env, trained.policy.masked
    observations: list[Any] = []
    masks: list[Flags] = []
    with (
        private_generators(trained.config.seed),
        Guarded(make_env(env), env.id, 0, masked=masked) as simulator,
    ):
        observation, info = simulator.reset(seed=trained.config.seed)
        while len(observations) < count:
            observations.append(observation)
            mask = mask_with(observation, info, simulator) if masked else None
            if mask is not None:
                masks.append(mask)
            batch = stacked([observation], trained.observation_space)
            actions = policy(batch, None if mask is None else mask[None])
            observation, _, terminated, truncated, info = simulator.step(first_action(actions, trained.action_space))
            if terminated or truncated:
                observation, info = simulator.reset()
    return observations, np.stack(masks) if masks else None


def _difference(expected: NDArray[Any], seen: NDArray[Any], space: spaces.Space[Any]) -> float:
    """Return the greatest difference of two batches of one part of actions; raise ExportError if not of rounding."""
    if (seen.dtype, seen.shape) != (expected.dtype, expected.shape):
        raise ExportError(
            f"the exported policy answers with {seen.dtype} of shape {seen.shape}, the policy with {expected.dtype} of "
            f"shape {expected.shape}; nothing was written"
        )
    difference = np.abs(seen.astype(np.float64) - expected.astype(np.float64))
    scale = np.maximum(1.0, np.abs(expected.astype(np.float64)))
    if isinstance(space, spaces.Box):
        bounded = space.bounded_below & space.bounded_above
        width = np.where(bounded, space.high.astype(np.float64) - space.low.astype(np.float64), 0.0)
        scale = np.maximum(scale, width / 2)
    whole = not np.issubdtype(expected.dtype, np.floating)
    wrong = ~(difference <= TOLERANCE * scale)  # NaN is wrong, too
    if wrong.sum() > (max(1.0, TIES * wrong.size) if whole else 0.0):
        raise ExportError(
            f"the exported policy acts otherwise than the policy: {wrong.sum()} of {wrong.size} numbers differ, by up "
            f"to {np.nanmax(difference):g}, where rounding makes {TOLERANCE:g}; nothing was written"
        )
    return float(difference.max())
