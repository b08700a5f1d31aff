"""Collecting experience: T steps of N environments under one policy and one normaliser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.moments import Moments, sample_moments
from ppolab.envs.base import VectorEnv
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
        actions: [T, N, ...]. log_probs: [T, N] of the actions under the collecting policy.
        values: [T+1, N] of the collecting policy's critic.
        rewards: [T, N] unscaled. terminated, truncated: [T, N] bool.
        valid: [T, N] bool; False on rows that only reset an environment.
        observation_moments: of the valid rows' unscaled observations.
        return_moments: of the discounted sums of rewards so far, on which reward scaling rests.
        episodes: those that ended in this rollout.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    observation_moments: Moments
    return_moments: Moments
    episodes: list[Episode]

    @property
    def num_steps(self) -> int:
        """Environment steps: the valid rows."""
        return int(self.valid.sum())


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
        """Add one step; returns the discounted sums [N] after it, and the episodes that it ended."""
        self._total_rewards += rewards * valid
        self._lengths += valid
        self._discounted = self._discounted * self._gamma + rewards * valid
        discounted = self._discounted.copy()
        finished = [
            Episode(float(self._total_rewards[index]), int(self._lengths[index])) for index in np.flatnonzero(ended)
        ]
        for sums in (self._total_rewards, self._lengths, self._discounted):
            sums[ended] = 0
        return discounted, finished


class Collector:
    """Steps a vector environment with a policy and keeps its place between rollouts."""

    def __init__(self, env: VectorEnv, rollout_steps: int, gamma: float, generator: torch.Generator) -> None:
        self._env = env
        self._steps = rollout_steps
        self._generator = generator
        self._statistics = EpisodeStatistics(env.num_envs, gamma)
        self._current = env.reset()
        rows = (rollout_steps, env.num_envs)
        self._raw = np.zeros((rollout_steps + 1, env.num_envs, env.observation_size))
        self._rewards = np.zeros(rows)
        self._discounted = np.zeros(rows)
        self._terminated = np.zeros(rows, dtype=np.bool_)
        self._truncated = np.zeros(rows, dtype=np.bool_)
        self._valid = np.zeros(rows, dtype=np.bool_)

    @torch.no_grad()
    def collect(self, policy: ActorCritic) -> Rollout:
        """The next T steps under `policy`, with its normaliser as it stands now.

        Raises:
            EnvError: see `VectorEnv.step`.
        """
        policy.eval()
        device = policy.value_head.weight.device
        scaling = policy.observation_scale.frozen()
        distribution = policy.distribution
        observations = torch.empty((self._steps + 1, self._env.num_envs, self._env.observation_size), device=device)
        actions = torch.empty(
            (self._steps, self._env.num_envs, *distribution.action_shape),
            dtype=distribution.action_dtype,
            device=device,
        )
        episodes: list[Episode] = []
        for t in range(self._steps):
            self._raw[t] = self._current
            observations[t] = torch.from_numpy(scaling(self._current))
            actions[t] = distribution.sample(policy.action_parameters(observations[t]), self._generator)
            episodes += self._step(t, actions[t].cpu().numpy())
        self._raw[-1] = self._current
        observations[-1] = torch.from_numpy(scaling(self._current))
        parameters, values = policy(observations)
        return Rollout(
            observations,
            actions,
            distribution.log_prob(parameters[:-1], actions),
            values,
            torch.from_numpy(self._rewards).to(device, torch.float32, copy=True),
            torch.from_numpy(self._terminated).to(device, copy=True),
            torch.from_numpy(self._truncated).to(device, copy=True),
            torch.from_numpy(self._valid).to(device, copy=True),
            sample_moments(torch.from_numpy(self._raw[:-1][self._valid])),
            sample_moments(torch.from_numpy(self._discounted[self._valid])),
            episodes,
        )

    def _step(self, t: int, actions: NDArray[np.float32]) -> list[Episode]:
        step = self._env.step(actions)
        self._current = step.observations
        self._rewards[t] = step.rewards
        self._terminated[t], self._truncated[t], self._valid[t] = step.terminated, step.truncated, step.valid
        self._discounted[t], episodes = self._statistics.add(step.rewards, step.terminated | step.truncated, step.valid)
        return episodes
