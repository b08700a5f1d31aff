"""Collecting experience: T steps of N environments under one policy and one normaliser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.moments import Moments, merged, sample_moments
from ppolab.envs.base import Step, VectorEnv
from ppolab.normalization import FrozenScaling
from ppolab.parallel import ALONE, Processes
from ppolab.policy import ActorCritic


@dataclass(frozen=True)
class Episode:
    """A finished training episode: the sum of its unscaled rewards, and its number of steps."""

    total_reward: float
    length: int


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, time-major.

    Attributes:
        observations: [T+1, N, D] normalised, as the policy saw them; the last row is what follows the last action.
        actions: [T, N, ...]. parameters: [T, N, P] of the distributions that they were drawn from.
        log_probs: [T, N] of the actions under the collecting policy.
        values: [T+1, N] of the collecting policy's critic.
        rewards: [T, N] unscaled. terminated, truncated: [T, N] bool.
        valid: [T, N] bool; False on rows that only reset an environment.
        observation_moments: of the valid rows' unscaled observations.
        return_moments: of the discounted sums of rewards so far, on which reward scaling rests.
        episodes: those that ended in this rollout.
    """

    observations: Tensor
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


@dataclass(frozen=True)
class Totals:
    """What the rollouts of all processes add up to. num_steps: environment steps, which are the valid rows."""

    num_steps: int
    observation_moments: Moments
    return_moments: Moments
    episodes: list[Episode]


def totals(rollout: Rollout, processes: Processes = ALONE) -> Totals:
    """Over all processes, in the order that one process with all of their environments would have found."""
    ended = (rollout.terminated | rollout.truncated).sum(1).tolist()  # `episodes` are in the order of their ends
    ends = [t for t, count in enumerate(ended) for _ in range(count)]
    mine = (
        int(rollout.valid.sum()), rollout.observation_moments, rollout.return_moments,
        list(zip(ends, rollout.episodes, strict=True)),
    )  # fmt: skip
    steps, observations, returns, episodes = zip(*processes.all_of(mine), strict=True)
    in_order = sorted(chain(*episodes), key=itemgetter(0))
    return Totals(
        sum(steps), reduce(merged, observations), reduce(merged, returns), [episode for _, episode in in_order]
    )


class Actor(Protocol):
    """What collecting and evaluating need of a policy in C++."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [..., D] -> (distribution parameters [..., P], values [...])."""

    def action_parameters(self, observations: Tensor) -> Tensor:
        """The first of the two alone."""

    def act(
        self, raw: NDArray[np.float64], scaling: FrozenScaling, noise: Tensor, observations: Tensor, actions: Tensor
    ) -> None:
        """What `act` does with a policy in PyTorch."""


def act(
    policy: ActorCritic,
    raw: NDArray[np.float64],
    scaling: FrozenScaling,
    noise: Tensor,
    observations: Tensor,
    actions: Tensor,
) -> None:
    """Fill `observations` [N, D] with `raw` [N, D] scaled, and `actions` [N, ...] with those that `noise` draws."""
    observations[:] = torch.from_numpy(scaling(raw))
    actions[:] = policy.distribution.sample(policy.action_parameters(observations), noise)


class EpisodeStatistics:
    """Sums over the episodes under way in N environments; each episode is counted once, when it ends."""

    def __init__(self, num_envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._total_rewards = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._discounted = np.zeros(num_envs)

    def add(
        self, rewards: NDArray[np.float64], ended: NDArray[np.bool_], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], list[Episode]]:
        """Add T steps [T, N]; returns the discounted sums [T, N] after each, and the episodes that ended, in order."""
        discounted = np.empty_like(rewards)
        finished: list[Episode] = []
        for t in range(len(rewards)):
            counted = rewards[t] * valid[t]
            self._total_rewards += counted
            self._lengths += valid[t]
            np.multiply(self._discounted, self._gamma, out=self._discounted)
            self._discounted += counted
            discounted[t] = self._discounted
            if ended[t].any():
                finished += self._end(ended[t])
        return discounted, finished

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums as they stand."""
        return {
            "rewards": self._total_rewards.copy(),
            "lengths": self._lengths.copy(),
            "discounted": self._discounted.copy(),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self._total_rewards[:], self._lengths[:] = state["rewards"], state["lengths"]
        self._discounted[:] = state["discounted"]

    def forget(self, which: NDArray[np.bool_]) -> None:
        """Drop the episodes under way in the environments `which` [N]."""
        for sums in (self._total_rewards, self._lengths, self._discounted):
            sums[which] = 0

    def unfinished(self) -> list[Episode]:
        """What the episodes under way have so far, one per environment."""
        return [
            Episode(float(total), int(length)) for total, length in zip(self._total_rewards, self._lengths, strict=True)
        ]

    def _end(self, ended: NDArray[np.bool_]) -> list[Episode]:
        finished = [
            Episode(float(self._total_rewards[index]), int(self._lengths[index])) for index in np.flatnonzero(ended)
        ]
        self.forget(ended)
        return finished


@dataclass(frozen=True)
class Steps:
    """What T steps of N environments returned, in arrays that every rollout fills anew.

    Attributes:
        observations: [T+1, N, D] raw; the last row is what follows the last action.
        rewards: [T, N] unscaled. terminated, truncated, valid: [T, N] bool.
    """

    observations: NDArray[np.float64]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def put(self, t: int, rows: slice, step: Step) -> None:
        """Store what the action at time t led to."""
        self.observations[t + 1, rows] = step.observations
        self.rewards[t, rows] = step.rewards
        self.terminated[t, rows] = step.terminated
        self.truncated[t, rows] = step.truncated
        self.valid[t, rows] = step.valid


class Collector:
    """Steps a vector environment with a policy and keeps its place between rollouts.

    Every process draws the noise of all, from equal generators, and takes its own environments' share. `stagger`:
    environments begin their second episodes one after another.
    """

    def __init__(
        self,
        env: VectorEnv,
        rollout_steps: int,
        gamma: float,
        generator: torch.Generator,
        processes: Processes = ALONE,
        *,
        stagger: bool = False,
    ) -> None:
        self._env = env
        self._generator = generator
        self._processes = processes
        self._gamma = gamma
        self._statistics = EpisodeStatistics(env.num_envs, gamma)
        rows = (rollout_steps, env.num_envs)
        self._steps = Steps(
            np.empty((rollout_steps + 1, env.num_envs, env.observation_size)),
            np.empty(rows),
            *(np.empty(rows, dtype=np.bool_) for _ in range(3)),
        )
        self._steps.observations[-1] = env.reset()
        self._stagger = stagger
        self._taken = 0  # steps of each environment since they began together

    def state(self) -> dict[str, Any] | None:
        """What `restore` needs to go on from here; None where the environments do not give their state."""
        envs = self._env.state()
        return envs and {
            "envs": envs, "observations": self._steps.observations[-1].copy(), "episodes": self._statistics.state(),
            "taken": self._taken,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._env.restore(state["envs"])
        self._steps.observations[-1] = state["observations"]
        self._statistics.restore(state["episodes"])
        self._taken = state["taken"]

    def restart(self, seeds: Sequence[int]) -> None:
        """Begin new episodes in environments that are made anew; those under way are forgotten."""
        self._env.restart(seeds)
        self._steps.observations[-1] = self._env.reset()
        self._statistics = EpisodeStatistics(self._env.num_envs, self._gamma)
        self._taken = 0

    @torch.no_grad()
    def collect(self, policy: ActorCritic, native: Actor | None = None) -> Rollout:
        """The next T steps under `policy`, with its normaliser as it stands now; `native` computes it faster.

        Raises:
            EnvError: see `VectorEnv.receive`.
        """
        policy.eval()
        observations, actions = self._run(policy, partial(act, policy) if native is None else native.act)
        device = actions.device
        parameters, values = (native or policy)(observations)
        steps = self._steps
        discounted, episodes = self._statistics.add(steps.rewards, steps.terminated | steps.truncated, steps.valid)
        rollout = Rollout(
            observations,
            actions,
            parameters[:-1],
            policy.distribution.log_prob(parameters[:-1], actions),
            values,
            torch.from_numpy(steps.rewards).to(device, torch.float32, copy=True),
            torch.from_numpy(steps.terminated).to(device, copy=True),
            torch.from_numpy(steps.truncated).to(device, copy=True),
            torch.from_numpy(steps.valid).to(device, copy=True),
            sample_moments(torch.from_numpy(steps.observations[:-1][steps.valid])),
            sample_moments(torch.from_numpy(discounted[steps.valid])),
            episodes,
        )
        self._begin_some_anew()
        return rollout

    def _begin_some_anew(self) -> None:
        """Once, spread over the first episode's length, so that environments are not all in the same phase for good.

        Else episodes of one length end in all of them together, and every rollout is of one phase only. The episodes
        that are cut short are forgotten; that a rollout ends there is what bootstraps their values.
        """
        duration, count = self._steps.rewards.shape
        before, self._taken = self._taken, self._taken + duration
        longest = self._env.longest_episode
        if not self._stagger or longest is None or duration >= longest or before >= longest:
            return
        places = self._processes.rank * count + np.arange(count)
        ends = places * longest // (self._processes.size * count)
        which = (before < ends) & (ends <= self._taken)
        if which.any():
            self._steps.observations[-1, which] = self._env.reset_some(which)
            self._statistics.forget(which)

    def _run(self, policy: ActorCritic, act: Callable[..., None]) -> tuple[Tensor, Tensor]:
        """Fill `_steps`; returns scaled observations [T+1, N, D] and actions [T, N, ...].

        The parts of the environment take turns: while one is acted for, the others simulate.
        """
        steps, distribution = self._steps, policy.distribution
        scaling = policy.observation_scale.frozen()
        duration, num_envs = steps.rewards.shape
        first = self._processes.rank * num_envs
        noise = distribution.noise((duration, self._processes.size * num_envs), self._generator)
        noise = noise[:, first : first + num_envs].contiguous()
        observations = torch.empty(steps.observations.shape, device=noise.device)
        actions = torch.empty(
            (duration, num_envs, *distribution.action_shape), dtype=distribution.action_dtype, device=noise.device
        )
        steps.observations[0] = steps.observations[-1]
        turns = [  # cut up beforehand: one slice of a tensor takes a third as long as the policy's answer
            (rows, part, noise[:, rows].unbind(), observations[:-1, rows].unbind(), actions[:, rows].unbind())
            for rows, part in self._env.parts
        ]
        for t in range(duration + 1):
            for rows, part, drawn, seen, chosen in turns:
                if t > 0:
                    steps.put(t - 1, rows, part.receive())
                if t < duration:
                    act(steps.observations[t, rows], scaling, drawn[t], seen[t], chosen[t])
                    part.send(chosen[t].cpu().numpy())
        observations[-1] = torch.from_numpy(scaling(steps.observations[-1]))
        return observations, actions
