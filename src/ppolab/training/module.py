"""Training as a LightningModule: one `training_step` is one iteration, a rollout and all of its epochs."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ppolab.algorithms import make_algorithm
from ppolab.config import Config
from ppolab.core.distributions import DiagonalGaussian
from ppolab.core.schedules import followed_kl, linear_decay
from ppolab.envs import TRAINING, VectorEnv, environment_seeds
from ppolab.errors import CheckpointError, StateNotReached, TrainingError
from ppolab.family import reads
from ppolab.native import NativePolicy, native_policy
from ppolab.normalization import RunningScale
from ppolab.parallel import ALONE, Processes
from ppolab.parameters import FlatParameters, flatten_parameters, make_optimizer
from ppolab.policy import ActorCritic, action_distribution
from ppolab.rollout import Collector, Episode, Rollout, Totals, totals
from ppolab.update import Algorithm, Parts, UpdateStats

log = logging.getLogger(__name__)

EPISODE_WINDOW = 100
"""train/return is the mean over this many most recent finished episodes."""


class PPOModule(pl.LightningModule):
    """Collects rollouts from `env` and improves `policy` on them.

    `training_step` returns the iteration's metrics. `steps` counts environment steps, those before a resume included;
    `first_step` is where this process began.
    """

    def __init__(self, config: Config, env: VectorEnv, processes: Processes = ALONE) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.processes = processes
        self.env = env
        self.policy = ActorCritic(
            env.observation_size,
            action_distribution(env.action_space),
            config.model,
            normalize=config.normalize_observations,
        )
        self.reward_scale = RunningScale((), enabled=config.normalize_rewards)
        self.steps = 0
        self.first_step = 0
        self.seconds = 0.0
        self.iteration = 0
        self.rate_factor = 1.0
        self.recent_episodes: deque[Episode] = deque(maxlen=EPISODE_WINDOW)
        self._restored: dict[str, Any] | None = None

    # --- one iteration -------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, float]:
        """Collect, scale rewards, update the policy, then let the observation statistics catch up."""
        started = time.perf_counter()
        rollout = self.collector.collect(self.policy, self.native)
        collected = time.perf_counter()

        found = totals(rollout, self.processes)
        self.reward_scale.merge(found.return_moments)
        rewards = self.reward_scale.scale_rewards(rollout.rewards)
        learning_rate = self._set_learning_rate()
        stats = self.learner.update(rollout, rewards, self.steps / self.config.total_steps)
        self._adapt_learning_rate(stats.kl)
        self.policy.observation_scale.merge(found.observation_moments)

        self._count(found)
        self.iteration += 1
        ended = time.perf_counter()
        self.seconds += ended - started
        metrics = {
            **self._episode_metrics(),
            **_update_metrics(stats),
            **self._policy_metrics(rollout),
            "optim/lr": learning_rate,
            **_time_metrics(found.num_steps, started, collected, ended),
            "time/total": self.seconds,
        }
        self._check_finite(stats)
        return metrics

    def _count(self, found: Totals) -> None:
        self.steps += found.num_steps
        self.recent_episodes.extend(found.episodes)

    def _set_learning_rate(self) -> float:
        rate = self.rate_factor * float(self.config.optimizer["lr"])
        if self.config.anneal_lr:
            rate = linear_decay(rate, self.steps / self.config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _adapt_learning_rate(self, kl: float) -> None:
        if self.config.adapt_lr and reads(self.config.algorithm, "adapt_lr"):
            assert self.config.target_kl is not None
            self.rate_factor = followed_kl(self.rate_factor, kl, self.config.target_kl)

    def _episode_metrics(self) -> dict[str, float]:
        if not self.recent_episodes:
            return {}
        return {
            "train/return": float(np.mean([episode.total_reward for episode in self.recent_episodes])),
            "train/length": float(np.mean([episode.length for episode in self.recent_episodes])),
        }

    def _policy_metrics(self, rollout: Rollout) -> dict[str, float]:
        if not isinstance(self.policy.distribution, DiagonalGaussian):
            return {}
        if self.policy.log_std is not None:
            return {"policy/std": float(self.policy.log_std.detach().exp().mean())}
        deviations = rollout.parameters[rollout.valid].chunk(2, dim=-1)[1].double().exp()
        sums = torch.stack((deviations.sum(), deviations.new_tensor(float(deviations.numel()))))
        total, count = self.processes.add_up(sums).tolist()
        return {"policy/std": total / count}

    def _check_finite(self, stats: UpdateStats) -> None:
        finite = math.isfinite(stats.policy_loss + stats.value_loss + stats.gradient_norm)
        if not (finite and bool(self.parameters_vector.vector.detach().isfinite().all())):
            limit = self.config.max_grad_norm
            shorter = f"max_grad_norm={limit}" if limit else "set max_grad_norm"
            raise TrainingError(
                f"the loss or the parameters are no longer finite after {self.steps} steps (loss/policy "
                f"{stats.policy_loss:.3g}, loss/value {stats.value_loss:.3g}, norm {stats.gradient_norm:.3g}): "
                f"lower optimizer.lr={self.config.optimizer['lr']} or {shorter}, then start again, "
                "or resume from the last checkpoint where there is one"
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
        self.collector = Collector(
            self.env, self.config.rollout_steps, self.config.gamma, self.action_generator, self.processes,
            stagger=self.config.env.stagger,
        )  # fmt: skip
        self.native: NativePolicy | None = None
        if self.config.compile.lower() != "false":
            self.native = native_policy(self.policy, self.parameters_vector, self.config)
        parts = Parts(
            self.policy, self.parameters_vector, self.optimizer, self.config, self.shuffle_generator, self.processes,
            self.native,
        )  # fmt: skip
        self.learner: Algorithm = make_algorithm(parts)
        if self.processes.rank > 0:  # dropout, which is all that draws from it; the first keeps to `seed` itself
            torch.manual_seed(_stream_seed(self.config.seed, 1 + self.processes.rank))
        if self._restored is None:
            self._warm_up()
        else:
            self._restore_checked(self._restored)
            self._restored = None

    def _warm_up(self) -> None:
        """One rollout that only fills the statistics: a policy should not learn under a scaling that then jumps."""
        if self.config.normalize_observations or self.config.normalize_rewards:
            found = totals(self.collector.collect(self.policy, self.native), self.processes)
            self.policy.observation_scale.merge(found.observation_moments)
            self.reward_scale.merge(found.return_moments)
            self._count(found)
            self.policy.train()  # Lightning warns of a module that starts in evaluation mode

    def train_dataloader(self) -> DataLoader[int]:
        """Counts iterations, nothing else. Sized: Lightning would prefetch one batch of an unsized one.

        Its own generator: it draws a number at the start, which a resumed run would draw once more.
        """
        return DataLoader(range(self.config.max_iterations), batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    # --- state ---------------------------------------------------------------------------------------------------

    def state(self, *, barrier: bool) -> dict[str, Any]:
        """Everything that the next iteration depends on, of all processes.

        Environments that do not give their state begin anew when a run goes on from it. With `barrier` they do so in
        this run, too: it is then the same run.
        """
        collectors = self.processes.all_of(self.collector.state())
        if barrier and None in collectors:
            self._restart_environments()
        return {
            "policy": self.policy.state_dict(),
            "reward_scale": self.reward_scale.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.learner.state(),
            "steps": self.steps,
            "seconds": self.seconds,
            "iteration": self.iteration,
            "rate_factor": self.rate_factor,
            "recent_episodes": [tuple(asdict(episode).values()) for episode in self.recent_episodes],
            "random": {
                "global": self.processes.all_of(_global_random_states(self.device)),
                "device": self.device.type,
                "actions": self.action_generator.get_state(),
                "shuffle": self.shuffle_generator.get_state(),
            },
            "collectors": collectors,
        }

    def restore_on_start(self, state: dict[str, Any]) -> None:
        """Go on from `state` once `fit` has built what it describes."""
        self._restored = state
        self.first_step = state["steps"]

    def _restore_checked(self, state: dict[str, Any]) -> None:
        try:
            self._restore(state)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            told = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"the checkpoint does not fit this run's configuration: {told}") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.reward_scale.load_state_dict(state["reward_scale"])
        self.optimizer.load_state_dict(state["optimizer"])
        if "algorithm" in state:  # not in checkpoints from when there was one algorithm, which has no state
            self.learner.load_state(state["algorithm"])
        self.steps = state["steps"]
        self.seconds = state["seconds"]
        self.iteration = state["iteration"]
        self.rate_factor = state["rate_factor"]
        self.recent_episodes.extend(Episode(total, length) for total, length in state["recent_episodes"])
        _set_global_random_states(state["random"]["global"][self.processes.rank], self.device)
        if state["random"]["device"] == self.device.type:
            self.action_generator.set_state(state["random"]["actions"])
        else:  # of another kind, whose states mean nothing here
            self.action_generator.manual_seed(_stream_seed(self.config.seed, 10_000 + self.iteration))
        self.shuffle_generator.set_state(state["random"]["shuffle"])
        if None in state["collectors"]:
            self._restart_environments()
            return
        try:
            self.collector.restore(state["collectors"][self.processes.rank])
        except StateNotReached as error:
            log.warning("%s: new episodes begin, so this is no longer exactly the run that it was", error)
            self._restart_environments()

    def _restart_environments(self) -> None:
        """With seeds of this iteration's own; those of iteration 0 were the run's first."""
        first, count = self.processes.rank * self.config.num_envs, self.config.num_envs
        self.collector.restart(environment_seeds(self.config.seed, first, count, TRAINING, 1 + self.iteration))


def _global_random_states(device: torch.device) -> dict[str, Any]:
    """Of the generators that everybody may draw from: dropout does, on `device`, and environments might."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        **({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}),
        "torch": torch.get_rng_state(),
        "python": [version, np.array(numbers, dtype=np.int64), gauss],
        "numpy": [name, keys, *rest],
    }


def _set_global_random_states(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:  # a run may go on where there is another kind of device
        torch.cuda.set_rng_state(states["cuda"], device)
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(tuple(states["numpy"]))


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
        **stats.extras,
    }


def _time_metrics(num_steps: int, started: float, collected: float, ended: float) -> dict[str, float]:
    return {
        "time/steps_per_second": num_steps / (ended - started),
        "time/rollout": collected - started,
        "time/update": ended - collected,
    }
