"""Notice what is wrong with a run, and give it a name; docs/warnings.md has a heading for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ppolab.learning.normalization import EPSILON

LATEST, ENOUGH = 20, 18
"""A warning is shown once it holds in so many of the latest iterations."""
FIRST_JUDGED = 100_000
"""Environment steps before which nobody expects a value function, or the end of an episode."""
FIRST_JUDGED_PER_ENV = 2_000
PAGE = "docs/warnings.md"


@dataclass(frozen=True)
class Measurements:
    """What one iteration showed. A share is between 0 and 1, and None where there is nothing to measure.

    Attributes:
        steps: environment steps so far.
        explained_variance: of the returns, by the value function before the update.
        value_error: the value function's loss, as a multiple of the mean square of its values.
        deviation: mean standard deviation of continuous actions.
        clipped_actions: share of the components of actions beyond their bounds.
        stopped_at_once: KL early stopping ended the update where it first looked.
        without_end: environment steps since an episode ended; without_end_per_env: those of each environment.
        longest_episode: the time limit; None without one.
        clipped_rewards, clipped_observations: share of scaled values at the limit of the scaling.
        reward_variance, observation_variance: running ones, by which the scaling divides; of observations the largest.
        rollout_variance: the largest of a component of the rollout's observations, as a multiple of 1 + mean squared.
    """

    steps: int
    explained_variance: float
    value_error: float
    deviation: float | None
    clipped_actions: float | None
    stopped_at_once: bool
    without_end: int
    without_end_per_env: int
    longest_episode: int | None
    clipped_rewards: float | None
    clipped_observations: float | None
    reward_variance: float | None
    observation_variance: float | None
    rollout_variance: float


def value_explains_nothing(now: Measurements) -> bool:
    """Return whether the value function is no better than the mean return, where there is something to explain.

    Where all returns are nearly the same, as of a policy that has solved its task, the error is small beside the
    values.
    """
    return now.steps > FIRST_JUDGED and now.explained_variance <= 0.02 and now.value_error > 0.25


def deviation_collapsed(now: Measurements) -> bool:
    """Return whether the policy hardly explores any longer; 1 is half the range of a bounded action."""
    return now.deviation is not None and now.deviation < 0.01


def actions_clipped(now: Measurements) -> bool:
    """Return whether most actions lie beyond their bounds."""
    return now.clipped_actions is not None and now.clipped_actions > 0.75


def kl_stops_at_once(now: Measurements) -> bool:
    """Return whether KL early stopping ended the update where it first looked."""
    return now.stopped_at_once


def episodes_never_end(now: Measurements) -> bool:
    """Return whether no episode has ended for long, nor is one still about to reach its time limit."""
    waited = now.without_end >= FIRST_JUDGED and now.without_end_per_env >= FIRST_JUDGED_PER_ENV
    return waited and (now.longest_episode is None or now.without_end_per_env > now.longest_episode)


def scaling_saturates(now: Measurements) -> bool:
    """Return whether rewards or observations are clipped by their scaling, or too small for it."""
    clipped = max(now.clipped_rewards or 0.0, now.clipped_observations or 0.0) > 0.2
    return clipped or any(0 < (each or 0.0) < EPSILON for each in (now.reward_variance, now.observation_variance))


def observations_constant(now: Measurements) -> bool:
    """Return whether no component of the observations ever changed in the rollout."""
    return now.rollout_variance <= 1e-12


@dataclass(frozen=True)
class NamedWarning:
    """A condition, and what a user is told where it holds."""

    holds: Callable[[Measurements], bool]
    words: str


WARNINGS: Mapping[str, NamedWarning] = {
    "value-explains-nothing": NamedWarning(
        value_explains_nothing, "the value function predicts returns no better than their mean does"
    ),
    "deviation-collapsed": NamedWarning(
        deviation_collapsed, "the standard deviation of actions is below 0.01: the policy hardly explores any longer"
    ),
    "actions-clipped": NamedWarning(actions_clipped, "more than three quarters of the actions are beyond their bounds"),
    "kl-stops-at-once": NamedWarning(
        kl_stops_at_once, "KL early stopping ends nearly every update after its first minibatches"
    ),
    "episodes-never-end": NamedWarning(episodes_never_end, "no episode has ended for 100,000 steps"),
    "scaling-saturates": NamedWarning(
        scaling_saturates, "rewards or observations are of a size that their scaling cannot bring to about 1"
    ),
    "observations-constant": NamedWarning(observations_constant, "the observations never change"),
}


class WarningWatch:
    """Look at every iteration, and remember which warnings a run has had; each is shown once.

    Attributes:
        shown: their names, in the order in which they came up.
    """

    def __init__(self) -> None:
        self.shown: list[str] = []
        self._latest: dict[str, deque[bool]] = {name: deque(maxlen=LATEST) for name in WARNINGS}

    def look(self, now: Measurements) -> None:
        """Add to `shown` what has held in `ENOUGH` of the `LATEST` iterations."""
        for name, warning in WARNINGS.items():
            latest = self._latest[name]
            latest.append(warning.holds(now))
            if name not in self.shown and sum(latest) >= ENOUGH:
                self.shown.append(name)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {"shown": list(self.shown), "latest": {name: list(each) for name, each in self._latest.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.shown = [name for name in state["shown"] if name in WARNINGS]
        for name, latest in self._latest.items():
            latest.clear()
            latest.extend(state["latest"].get(name, ()))
