"""Measure an iteration for the warnings of `ppolab.training.named_warnings`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.config.algorithms import reads
from ppolab.config.schema import Config
from ppolab.core.observation_rows import SCALED
from ppolab.envs.factory import VectorEnv, action_mapping
from ppolab.envs.spaces import policy_bounds
from ppolab.learning.interface import UpdateStats
from ppolab.learning.kl_early_stopping import KL_SAMPLES
from ppolab.learning.normalization import CLIP, RunningScale
from ppolab.learning.rollout import Rollout, Totals
from ppolab.learning.stacked_images import last_rows
from ppolab.training.named_warnings import Measurements


class Measuring:
    """Turn an iteration into `Measurements`. It reads what is there anyway, and draws nothing.

    Rewards, actions and values are those of this process, the first; observations and episodes those of all.
    """

    def __init__(self, config: Config, env: VectorEnv, device: torch.device) -> None:
        bounds = policy_bounds(env.policy_space, action_mapping(config.env))
        self._bounds = bounds and tuple(torch.from_numpy(bound).to(device) for bound in bounds)
        self._env = env
        self._config = config
        self._stops_early = config.target_kl is not None and reads(config.algorithm, "target_kl")
        self._without_end = 0

    def measured(
        self,
        rollout: Rollout,
        rewards: Tensor,
        found: Totals,
        stats: UpdateStats,
        scales: tuple[RunningScale, RunningScale],
        *,
        deviation: float | None,
        steps: int,
    ) -> Measurements:
        """Return what the iteration that has ended showed.

        Args:
            rewards: [T, N] scaled. scales: of observations and of rewards. deviation: policy/std. steps: so far.
        """
        self._without_end = 0 if found.episodes else self._without_end + found.num_steps
        observed, config = found.observation_moments, self._config
        spread = observed.variance / (1 + observed.mean**2)
        seen, reward_scale = scales
        return Measurements(
            steps=steps,
            explained_variance=stats.explained_variance,
            value_error=stats.value_loss / max(float(rollout.values.square().mean()), 1e-12),
            deviation=deviation,
            clipped_actions=self._clipped_actions(rollout.actions),
            stopped_at_once=self._stops_early and self._stopped_at_once(stats),
            without_end=self._without_end,
            without_end_per_env=self._without_end // (config.num_envs * config.world_size),
            longest_episode=self._env.longest_episode,  # which other env.kwargs may change
            clipped_rewards=_share(rewards.abs() >= CLIP) if reward_scale.enabled else None,
            clipped_observations=self._clipped_observations(rollout) if seen.enabled else None,
            reward_variance=float(reward_scale.variance) if reward_scale.enabled else None,
            observation_variance=float(seen.variance.max()) if seen.enabled and seen.variance.numel() else None,
            rollout_variance=float(spread.max()) if found.num_steps and spread.numel() else 1.0,
        )

    def state(self) -> dict[str, Any]:
        """Return what the next measurements depend on."""
        return {"without_end": self._without_end}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._without_end = state["without_end"]

    def _stopped_at_once(self, stats: UpdateStats) -> bool:
        looked = min(1.0, max(KL_SAMPLES, self._config.minibatch_size) / self._config.batch_size)
        return stats.epochs <= looked and stats.epochs < self._config.epochs

    def _clipped_observations(self, rollout: Rollout) -> float | None:
        size = self._env.layout.vector_size
        if size == 0:
            return None
        rows = last_rows(rollout.observations)
        if self._env.layout.images:
            rows = rows[:, : SCALED.itemsize * size].view(torch.float32)
        return _share(rows.abs() >= CLIP)

    def _clipped_actions(self, actions: Tensor) -> float | None:
        if self._bounds is None:
            return None
        low, high = self._bounds
        actions = actions[..., -len(low) :]
        return _share((actions < low) | (actions > high))


def _share(which: Tensor) -> float:
    return float(which.float().mean())
