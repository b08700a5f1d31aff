"""Compare an exported policy with the policy that it was made from, on observations of a real environment."""

from __future__ import annotations

import time
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

TOLD_SECONDS = 5.0
"""So often it is told how far a comparison is."""

State = NDArray[np.float32]
Play = Callable[[Any, Flags | None, State | None], tuple[Any, State | None]]
"""A function from a batch of raw observations, and the allowed actions [N, A] of each, to a batch of actions. With
memory it also takes the states before them, [N, K, H], and returns those after them; else these are None.
"""


@dataclass(frozen=True)
class Played:
    """Observations of episodes that a policy has played.

    Attributes:
        masks: [A] of each, of a policy with masks; else empty. states: [1, K, H] before each, with memory; else empty.
    """

    observations: list[Any]
    masks: list[Flags]
    states: list[State]


@dataclass(frozen=True)
class Comparison:
    """What comparing has found.

    Attributes:
        greatest_difference: between two actions, or numbers of a state, over all components and batch sizes.
        observations: how many were compared.
    """

    greatest_difference: float
    observations: int


class _Progress:
    """Tell `say` how far a comparison is, at most once in `TOLD_SECONDS`."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total = say, total
        self._done, self._told = 0, time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            self._say(f"comparing     {self._done / self._total:.0%}")


def compare(
    trained: TrainedPolicy, exported: Play, count: int = OBSERVATIONS, say: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Play `count` steps in Gymnasium's environment with the policy, and compare its actions with the exported one's.

    Args:
        say: is told every few seconds how much of it is done.

    Raises:
        ExportError: they differ by more than rounding.
        EnvError: the environment raised.
    """
    agent = Agent(trained)
    observed = trained.policy.masked and is_observed(agent.observation_space, agent.action_space)
    progress = _Progress(say, count * (1 + len(BATCHES)))
    played = _played(trained, agent, count, progress)
    greatest = 0.0
    for size in BATCHES:
        for first in range(0, count, size):
            batch = stacked(played.observations[first : first + size], trained.observation_space)
            part = slice(first, first + size)
            masks = np.stack(played.masks[part]) if played.masks else None
            before = np.concatenate(played.states[part]) if played.states else None
            expected_actions = agent.act(batch, state=before, action_mask=None if observed else masks)
            actions, after = exported(batch, masks, before)
            both = [parts_of(each, trained.action_space) for each in (expected_actions, actions)]
            for expected, seen, (_, part) in zip(*both, named_parts(trained.action_space), strict=True):
                greatest = max(greatest, _difference(expected, seen, part))
            if after is not None:
                kept = agent.state
                assert kept is not None
                greatest = max(greatest, _difference(kept, after, spaces.Box(-1, 1, after.shape[1:])))
            progress.add(min(size, count - first))
    return Comparison(greatest, count)


def _played(trained: TrainedPolicy, agent: Agent, count: int, progress: _Progress) -> Played:
    """Play episodes with the policy, until there are `count` observations."""
    env, masked = trained.env, trained.policy.masked
    observed = masked and is_observed(agent.observation_space, agent.action_space)
    played = Played([], [], [])
    with (
        private_generators(trained.config.seed),
        Guarded(make_env(env), env.id, 0, masked=masked) as simulator,
    ):
        observation, info = simulator.reset(seed=trained.config.seed)
        while len(played.observations) < count:
            mask = mask_with(observation, info, simulator) if masked else None
            if mask is not None and not mask.any():  # see `families.may_allow_nothing`; an agent has no answer then
                observation, info = simulator.reset()
                continue
            played.observations.append(observation)
            progress.add(1)
            if mask is not None:
                played.masks.append(mask)
            if trained.policy.has_memory:
                played.states.append(_state_now(trained, agent))
            given = None if mask is None or observed else mask[None]
            actions = agent.act(stacked([observation], trained.observation_space), action_mask=given)
            observation, _, terminated, truncated, info = simulator.step(first_action(actions, trained.action_space))
            if terminated or truncated:
                observation, info = simulator.reset()
                agent.reset()
    return played


def _state_now(trained: TrainedPolicy, agent: Agent) -> State:
    nothing = trained.policy.no_memories(1, actor_alone=True).transpose(0, 1).numpy()
    return nothing if agent.state is None else agent.state


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
