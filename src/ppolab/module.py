"""PPO as a LightningModule: one `training_step` is one iteration, a rollout and all of its epochs."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ppolab.config import Config, optimizer_arguments, optimizer_class
from ppolab.core.schedules import linear_decay
from ppolab.envs import VectorEnv
from ppolab.errors import ConfigError, TrainingError
from ppolab.gradient import worth_compiling
from ppolab.native import NativePolicy, native_policy
from ppolab.normalization import RunningScale
from ppolab.parameters import FlatParameters, flatten_parameters
from ppolab.policy import ActorCritic, action_distribution
from ppolab.rollout import Collector, Episode, Rollout
from ppolab.update import Learner, UpdateStats

EPISODE_WINDOW = 100
"""train/return is the mean over this many most recent finished episodes."""


class PPOModule(pl.LightningModule):
    """Collects rollouts from `env` and improves `policy` on them.

    `training_step` returns the iteration's metrics. `steps` counts environment steps.
    """

    def __init__(self, config: Config, env: VectorEnv) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.env = env
        self.policy = ActorCritic(
            env.observation_size,
            action_distribution(env.action_space),
            config.model,
            normalize=config.normalize_observations,
        )
        self.reward_scale = RunningScale((), enabled=config.normalize_rewards)
        self.steps = 0
        self.seconds = 0.0
        self.iteration = 0
        self.recent_episodes: deque[Episode] = deque(maxlen=EPISODE_WINDOW)
        self._restored: dict[str, Any] | None = None

    # --- one iteration -------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, float]:
        """Collect, scale rewards, update the policy, then let the observation statistics catch up."""
        started = time.perf_counter()
        rollout = self.collector.collect(self.policy, self.native)
        collected = time.perf_counter()

        self.reward_scale.merge(rollout.return_moments)
        rewards = self.reward_scale.scale_rewards(rollout.rewards)
        learning_rate = self._set_learning_rate()
        stats = self.learner.update(rollout, rewards)
        self.policy.observation_scale.merge(rollout.observation_moments)

        self._count(rollout)
        self.iteration += 1
        ended = time.perf_counter()
        self.seconds += ended - started
        metrics = {
            **self._episode_metrics(),
            **_update_metrics(stats),
            **self._policy_metrics(),
            "optim/lr": learning_rate,
            **_time_metrics(rollout, started, collected, ended),
            "time/total": self.seconds,
        }
        self._check_finite(stats)
        return metrics

    def _count(self, rollout: Rollout) -> None:
        self.steps += rollout.num_steps
        self.recent_episodes.extend(rollout.episodes)

    def _set_learning_rate(self) -> float:
        rate = float(self.config.optimizer["lr"])
        if self.config.anneal_lr:
            rate = linear_decay(rate, self.steps / self.config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _episode_metrics(self) -> dict[str, float]:
        if not self.recent_episodes:
            return {}
        return {
            "train/return": float(np.mean([episode.total_reward for episode in self.recent_episodes])),
            "train/length": float(np.mean([episode.length for episode in self.recent_episodes])),
        }

    def _policy_metrics(self) -> dict[str, float]:
        if self.policy.log_std is None:
            return {}
        return {"policy/std": float(self.policy.log_std.detach().exp().mean())}

    def _check_finite(self, stats: UpdateStats) -> None:
        finite = math.isfinite(stats.policy_loss + stats.value_loss + stats.gradient_norm)
        if not (finite and bool(self.parameters_vector.vector.detach().isfinite().all())):
            raise TrainingError(
                f"the loss or the parameters are no longer finite after {self.steps} steps (loss/policy "
                f"{stats.policy_loss:.3g}, loss/value {stats.value_loss:.3g}, norm {stats.gradient_norm:.3g}): "
                f"lower optimizer.lr={self.config.optimizer['lr']} or set max_grad_norm, then start again or resume "
                "from the last checkpoint"
            )

    # --- Lightning's hooks ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Called once the module is on its device: only now can its parameters be tied to one vector."""
        self.parameters_vector: FlatParameters = flatten_parameters(self.policy)
        self.optimizer: torch.optim.Optimizer = make_optimizer(self.config, self.parameters_vector.vector)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def on_fit_start(self) -> None:
        """Build what needs the device and the optimizer; then go on from a checkpoint if there is one."""
        self.action_generator = torch.Generator(self.device).manual_seed(_stream_seed(self.config.seed, 0))
        self.shuffle_generator = torch.Generator().manual_seed(_stream_seed(self.config.seed, 1))
        self.collector = Collector(self.env, self.config.rollout_steps, self.config.gamma, self.action_generator)
        self.native: NativePolicy | None = None
        if self.config.compile.lower() != "false":
            self.native = native_policy(self.policy, self.parameters_vector, self.config)
        self.learner = Learner(
            self.policy, self.parameters_vector, self.optimizer, self.config, self.shuffle_generator,
            native=self.native, compiled=self.native is None and worth_compiling(self.config),
        )  # fmt: skip
        if self._restored is None:
            self._warm_up()
        else:
            self._restore(self._restored)
            self._restored = None

    def _warm_up(self) -> None:
        """One rollout that only fills the statistics: a policy should not learn under a scaling that then jumps."""
        if self.config.normalize_observations or self.config.normalize_rewards:
            rollout = self.collector.collect(self.policy, self.native)
            self.policy.observation_scale.merge(rollout.observation_moments)
            self.reward_scale.merge(rollout.return_moments)
            self._count(rollout)
            self.policy.train()  # Lightning warns of a module that starts in evaluation mode

    def train_dataloader(self) -> DataLoader[int]:
        """Counts iterations, nothing else. Sized: Lightning would prefetch one batch of an unsized one."""
        return DataLoader(range(self.config.max_iterations), batch_size=None)  # type: ignore[arg-type]

    # --- state ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, except the environments' own state."""
        return {
            "policy": self.policy.state_dict(),
            "reward_scale": self.reward_scale.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
            "iteration": self.iteration,
            "recent_episodes": [tuple(asdict(episode).values()) for episode in self.recent_episodes],
            "random": {
                "torch": torch.get_rng_state(),
                "actions": self.action_generator.get_state(),
                "shuffle": self.shuffle_generator.get_state(),
            },
        }

    def restore_on_start(self, state: dict[str, Any]) -> None:
        """Go on from `state` once `fit` has built what it describes."""
        self._restored = state

    def _restore(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.reward_scale.load_state_dict(state["reward_scale"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        self.seconds = state["seconds"]
        self.iteration = state["iteration"]
        self.recent_episodes.extend(Episode(total, length) for total, length in state["recent_episodes"])
        torch.set_rng_state(state["random"]["torch"])
        self.action_generator.set_state(state["random"]["actions"])
        self.shuffle_generator.set_state(state["random"]["shuffle"])


def make_optimizer(config: Config, parameter: torch.Tensor) -> torch.optim.Optimizer:
    """The configured optimizer of one tensor; raises ConfigError when there is none, or it takes other settings."""
    try:
        optimizer: torch.optim.Optimizer = optimizer_class(config)([parameter], **optimizer_arguments(config))
    except (TypeError, ValueError, RuntimeError) as error:
        target = config.optimizer["_target_"]
        raise ConfigError(f"optimizer: {target} does not take these settings: {error}") from error
    return optimizer


def _stream_seed(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(1000, stream)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _update_metrics(stats: UpdateStats) -> dict[str, float]:
    return {
        "loss/policy": stats.policy_loss,
        "loss/value": stats.value_loss,
        "policy/kl": stats.kl,
        "policy/clip_fraction": stats.clip_fraction,
        "policy/entropy": stats.entropy,
        "policy/epochs": float(stats.epochs),
        "value/explained_variance": stats.explained_variance,
        "optim/grad_norm": stats.gradient_norm,
    }


def _time_metrics(rollout: Rollout, started: float, collected: float, ended: float) -> dict[str, float]:
    return {
        "time/steps_per_second": rollout.num_steps / (ended - started),
        "time/rollout": collected - started,
        "time/update": ended - collected,
    }
