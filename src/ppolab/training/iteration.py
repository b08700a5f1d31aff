"""Hold an iteration under way, and name its metrics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ppolab.learning.interface import UpdateStats
from ppolab.learning.rollout import Rollout, Totals


@dataclass(frozen=True)
class Iteration:
    """An iteration between its rollout and its update.

    Attributes:
        rewards: [T, N] of the rollout, scaled. found: of the rollouts of all ranks.
        started, collected: the `time.perf_counter()` before and after collecting.
    """

    rollout: Rollout
    rewards: Tensor
    found: Totals
    learning_rate: float
    started: float
    collected: float


def update_metrics(stats: UpdateStats) -> dict[str, float]:
    """Return the metrics of an update."""
    return {
        "loss/policy": stats.policy_loss,
        "loss/value": stats.value_loss,
        "policy/kl": stats.kl,
        "policy/clip_fraction": stats.clip_fraction,
        "policy/entropy": stats.entropy,
        "policy/epochs": float(stats.epochs),
        "value/explained_variance": stats.explained_variance,
        "optim/grad_norm": stats.gradient_norm,
        **stats.extras,
    }


def time_metrics(num_steps: int, started: float, collected: float, ended: float) -> dict[str, float]:
    """Return the metrics of how long an iteration of `num_steps` environment steps took."""
    return {
        "time/steps_per_second": num_steps / (ended - started),
        "time/rollout": collected - started,
        "time/update": ended - collected,
    }
