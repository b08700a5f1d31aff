"""Train as a LightningModule: one `training_step` is one iteration, a rollout and all epochs of the update."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ppolab.agents.policy import CHOICES
from ppolab.config.algorithms import reads
from ppolab.core.distributions import gaussian_size
from ppolab.core.schedules import followed_kl
from ppolab.envs.factory import TRAINING, environment_seeds
from ppolab.envs.seeding import seed_global_generators
from ppolab.errors import CheckpointError, StateNotReached, TrainingError
from ppolab.learning.deviation_bound import bound_deviation
from ppolab.learning.interface import Algorithm, LearnerContext, UpdateStats
from ppolab.learning.normalization import RunningScale
from ppolab.learning.optimizer import set_learning_rate
from ppolab.learning.rollout import Rollout, Totals, totals
from ppolab.learning.schedules import rate_schedule
from ppolab.runtime.memory import forget_code, return_free_memory
from ppolab.training.collector import Collector
from ppolab.training.env_arguments import EnvArguments
from ppolab.training.iteration import Iteration, time_metrics, update_metrics
from ppolab.training.measuring import Measuring
from ppolab.training.named_warnings import WarningWatch
from ppolab.training.pytorch_threads import pytorch_threads
from ppolab.training.random_state import global_random_states, set_global_random_states, stream_seed
from ppolab.training.recent_episodes import RecentEpisodes
from ppolab.training.warm_start import WarmStart

log = logging.getLogger(__name__)


COPIES = 1_000_000
"""Streams of random numbers from here on are those of copies; no run has so many iterations."""


class OnPolicyModule(pl.LightningModule):
    """Collect rollouts and improve the policy on them.

    `training_step` returns the iteration's metrics. `steps` counts the environment steps of all ranks, those before a
    resume included. Built by `ppolab.training.build`; `start` must be called before the first `training_step`.

    Args:
        actions: the generator that `collector` draws action noise from.
        threads: of PyTorch, in updates.

    Attributes:
        watch: which warnings the run has had; kept by the first rank.
        threads: as given.
        evaluation: the metrics of the last evaluation, on all ranks; empty before the first.
        evaluation_due: the policy as it is now is still to be evaluated, since a signal stopped the run before.
    """

    def __init__(
        self,
        context: LearnerContext,
        collector: Collector,
        learner: Algorithm,
        actions: torch.Generator,
        measuring: Measuring,
        threads: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = context.config
        self.group = context.group
        self.policy = context.policy
        self.parameters_vector = context.flat
        self.optimizer = context.optimizer
        self.native = context.native
        self.collector = collector
        self.learner = learner
        self.action_generator = actions
        self.shuffle_generator = context.generator
        self.reward_scale = RunningScale((), enabled=self.config.normalize_rewards)
        self.steps = 0
        self.seconds = 0.0
        self.iteration = 0
        self.rate_factor = 1.0
        self.recent_episodes = RecentEpisodes()
        self.watch = WarningWatch()
        self.evaluation: dict[str, float] = {}
        self.evaluation_due = False
        self.env_arguments = EnvArguments(self.config.env)
        self._measuring = measuring
        self.threads = threads
        self._rate_schedule = rate_schedule(self.config)

    # --- one iteration -------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, float]:
        """Train for one iteration: collect a rollout, scale its rewards, update the policy, return the metrics.

        Raises:
            EnvError: see `VectorEnv.receive`.
            TrainingError: a loss or a parameter is no longer finite.
        """
        started = time.perf_counter()
        iteration = self.begun(self.collector.collect(self.policy, self.native), started)
        with pytorch_threads(self.threads):
            stats = self.learner.update(iteration.rollout, iteration.rewards, self.progress)
        return self.ended(iteration, stats)

    def begun(self, rollout: Rollout, started: float) -> Iteration:
        """Return the iteration that has collected `rollout`, ready for the update.

        Args:
            started: the `time.perf_counter()` at which it began.
        """
        collected = time.perf_counter()
        if self.policy.layout.images:
            self._free_memory()  # pieces between what is kept, which are too small for an update
        found = totals(rollout, self.group)
        self.reward_scale.merge(found.return_moments)
        rewards = self.reward_scale.scale_rewards(rollout.rewards)
        return Iteration(rollout, rewards, found, self._set_learning_rate(), started, collected)

    def ended(self, iteration: Iteration, stats: UpdateStats) -> dict[str, float]:
        """Return the metrics of an iteration whose update did what `stats` says.

        Raises:
            TrainingError: a loss or a parameter is no longer finite.
        """
        rollout, found = iteration.rollout, iteration.found
        if self.policy.layout.images:
            return_free_memory()
        self._check_finite(stats, self.steps + found.num_steps)
        self._adapt_learning_rate(stats.kl)
        self.policy.observation_scale.merge(found.observation_moments)  # only now: the update saw the old scale

        self._count(found)
        bound_deviation(self.policy, self.config, self.progress)  # checkpoints hold what the next rollout begins with
        self.iteration += 1
        ended = time.perf_counter()
        self.seconds += ended - iteration.started
        metrics = {
            **self.recent_episodes.metrics(self.steps, self.config.env.log_info),
            **update_metrics(stats),
            **self._policy_metrics(rollout),
            "optim/lr": iteration.learning_rate,
            **time_metrics(found.num_steps, iteration.started, iteration.collected, ended),
            "time/total": self.seconds,
        }
        if self.group.is_first:
            deviation = metrics.get("policy/std")
            scales = self.policy.observation_scale, self.reward_scale
            self.watch.look(
                self._measuring.measured(
                    rollout, iteration.rewards, found, stats, scales, deviation=deviation, steps=self.steps
                )
            )
        return metrics

    @property
    def progress(self) -> float:
        """Share of the run's environment steps taken so far."""
        return self.steps / self.config.total_steps

    def _free_memory(self) -> None:
        """Give back what neither rollouts nor updates need."""
        return_free_memory()
        if self.iteration == 0:
            forget_code()  # which only the start has called

    def _count(self, found: Totals) -> None:
        self.steps += found.num_steps
        self.recent_episodes.add(self.steps, found.episodes)

    def _set_learning_rate(self) -> float:
        rate = self.rate_factor * float(self.config.optimizer["lr"])
        rate *= self._rate_schedule.factor(self.progress)
        set_learning_rate(self.optimizer, rate)
        return rate

    def _adapt_learning_rate(self, kl: float) -> None:
        if self.config.adapt_lr and reads(self.config.algorithm, "adapt_lr"):
            assert self.config.target_kl is not None
            self.rate_factor = followed_kl(self.rate_factor, kl, self.config.target_kl)

    def _policy_metrics(self, rollout: Rollout) -> dict[str, float]:
        size = gaussian_size(self.policy.distribution)
        if size == 0:
            return {}
        if self.policy.log_std is not None:
            return {"policy/std": float(self.policy.log_std.detach().exp().mean())}
        deviations = rollout.parameters[rollout.valid][:, -size:].double().exp()
        sums = torch.stack((deviations.sum(), deviations.new_tensor(float(deviations.numel()))))
        total, count = self.group.all_reduce(sums).tolist()
        return {"policy/std": total / count}

    def _check_finite(self, stats: UpdateStats, steps: int) -> None:
        finite = math.isfinite(stats.policy_loss + stats.value_loss + stats.gradient_norm)
        if not (finite and bool(self.parameters_vector.vector.detach().isfinite().all())):
            limit = self.config.max_grad_norm
            shorter = f"max_grad_norm={limit}" if limit else "set max_grad_norm"
            raise TrainingError(
                f"the loss or the parameters are no longer finite after {steps} steps (loss/policy "
                f"{stats.policy_loss:.3g}, loss/value {stats.value_loss:.3g}, norm {stats.gradient_norm:.3g}): "
                f"lower optimizer.lr={self.config.optimizer['lr']} or {shorter}, then start again, "
                "or resume from the last checkpoint where there is one"
            )

    # --- for callbacks of the user ---------------------------------------------------------------------------------

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """The `env.kwargs` with which the training environments were made; evaluations keep to the configuration."""
        return copy.deepcopy(self.env_arguments.in_force)

    def change_env_kwargs(self, changes: Mapping[str, Any]) -> None:
        """Train with other `env.kwargs` from the next iteration on; those that are not named stay.

        The environments are made anew then; the episodes under way are dropped, and train/return begins anew. Policy,
        optimizer, and the statistics of observations and rewards go on. Call it alike on all ranks: what the first one
        asks for counts. Nothing happens where nothing changes.

        Raises:
            CallbackError: the environments cannot be made with them, or would have other spaces.
        """
        self.env_arguments.ask(changes, self.collector)

    def follow_env_kwargs(self) -> None:
        """Make the environments of all ranks anew, where `change_env_kwargs` asked for others."""
        asked = self.group.broadcast(self.env_arguments.asked)
        self.env_arguments.asked = None
        if asked is None or asked == self.env_arguments.in_force:
            return
        self._use_env_kwargs(asked)
        if self.group.is_first:
            log.info("env.kwargs of training are %s after %s steps", asked, f"{self.steps:,}")

    def _use_env_kwargs(self, kwargs: dict[str, Any]) -> None:
        self.env_arguments.in_force = kwargs
        self.recent_episodes.clear()  # train/return and train/length are of one kind of environment
        self.collector.use_kwargs(kwargs)
        self._restart_environments()

    # --- Lightning's hooks ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the flat parameter vector."""
        return self.optimizer

    def train_dataloader(self) -> DataLoader[int]:
        """Return a loader that counts iterations, nothing else.

        It has a size, since Lightning would prefetch one batch of an unsized one. It has a generator of its own, since
        it draws a number at the start, which a resumed run would draw once more.
        """
        return DataLoader(range(self.config.max_iterations), batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    # --- state ---------------------------------------------------------------------------------------------------

    def start(self, state: dict[str, Any] | None = None, taken: WarmStart | None = None) -> None:
        """Go on from `state`, or begin a new run: fill the running statistics by one rollout, without an update.

        Without that rollout, the policy would learn under a scale that changes greatly in the first iterations.

        Args:
            taken: what a new run takes from an earlier one; its observation statistics go on, the reward's begin anew.

        Raises:
            CheckpointError: `state` is of another configuration.
        """
        if self.group.rank > 0:  # Lightning has seeded all ranks alike; the first rank keeps to `seed` itself
            seed_global_generators(self.config.seed, self.group.size + self.group.rank)
            torch.manual_seed(stream_seed(self.config.seed, 1 + self.group.rank))
        if state is not None:
            self._restore_checked(state)
        elif taken is not None:
            taken.apply(self.policy, self.learner)
        bound_deviation(self.policy, self.config, self.progress)
        if state is None and self.wants_first_rollout:
            self.take_first(self.collector.collect(self.policy, self.native))

    @property
    def wants_first_rollout(self) -> bool:
        """Whether a new run fills running statistics before its first iteration."""
        return self.config.normalize_observations or self.config.normalize_rewards

    def take_first(self, rollout: Rollout) -> None:
        """Fill the running statistics."""
        found = totals(rollout, self.group)
        self.policy.observation_scale.merge(found.observation_moments)
        self.reward_scale.merge(found.return_moments)
        self._count(found)
        bound_deviation(self.policy, self.config, self.progress)

    def state(self, *, barrier: bool) -> dict[str, Any]:
        """Return everything that the next iteration depends on, of all ranks: `start` goes on from it.

        Environments that do not give their state begin new episodes when a run is resumed. With `barrier` they do so
        here, too, so that the run that goes on and the run that resumes are the same. All ranks must call this.
        """
        collectors = self.group.all_gather(self.collector.state())
        if barrier and None in collectors:
            self._restart_environments()
        return {
            "policy": self.policy.state_dict(),
            "masked": self.policy.masked,
            CHOICES: True,
            "reward_scale": self.reward_scale.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.learner.state(),
            "steps": self.steps,
            "seconds": self.seconds,
            "iteration": self.iteration,
            "rate_factor": self.rate_factor,
            "env_kwargs": self.env_kwargs,
            "evaluation": dict(self.evaluation),
            "evaluation_due": self.evaluation_due,
            **self.recent_episodes.state(),
            "warnings": {"watch": self.watch.state(), "measuring": self._measuring.state()},
            "random": {
                "global": self.group.all_gather(global_random_states(self._parameter_device)),
                "device": self._parameter_device.type,
                "actions": self.action_generator.get_state(),
                "shuffle": self.shuffle_generator.get_state(),
            },
            "collectors": collectors,
        }

    def _restore_checked(self, state: dict[str, Any]) -> None:
        try:
            self._restore(state)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            told = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"the checkpoint does not fit this run's configuration: {told}") from error

    def _restore(self, state: dict[str, Any]) -> None:
        kwargs = state.get("env_kwargs", self.env_kwargs)  # not in checkpoints from when nothing could change them
        if kwargs != self.env_kwargs:
            self._use_env_kwargs(kwargs)
        self.policy.load_state_dict(state["policy"])
        self.reward_scale.load_state_dict(state["reward_scale"])
        self.optimizer.load_state_dict(state["optimizer"])
        if "algorithm" in state:  # not in checkpoints from when there was one algorithm, which has no state
            self.learner.load_state(state["algorithm"])
        self.steps = state["steps"]
        self.seconds = state["seconds"]
        self.iteration = state["iteration"]
        self.rate_factor = state["rate_factor"]
        self.evaluation = state.get("evaluation", {})
        self.evaluation_due = state.get("evaluation_due", False)
        self.recent_episodes.load_state(state, self.steps)
        if "warnings" in state:  # not in checkpoints from before there were any
            self.watch.load_state(state["warnings"]["watch"])
            self._measuring.load_state(state["warnings"]["measuring"])
        self._restore_generators(state["random"])
        if None in state["collectors"]:
            self._restart_environments()
            return
        try:
            self.collector.restore(state["collectors"][self.group.rank])
        except StateNotReached as error:
            log.warning("%s: new episodes begin, so this is no longer exactly the run that it was", error)
            self._restart_environments()

    def _restore_generators(self, random: dict[str, Any] | None) -> None:
        """Go on with the random numbers of a checkpoint; None, as in a copy: with some of this run and iteration."""
        if random is None:
            seed_global_generators(self.config.seed, COPIES + self.iteration * self.group.size + self.group.rank)
            self.shuffle_generator.manual_seed(stream_seed(self.config.seed, COPIES + self.iteration))
        else:
            set_global_random_states(random["global"][self.group.rank], self._parameter_device)
            self.shuffle_generator.set_state(random["shuffle"])
        if random is not None and random["device"] == self._parameter_device.type:
            self.action_generator.set_state(random["actions"])
        else:  # a state of another kind of device means nothing here
            self.action_generator.manual_seed(stream_seed(self.config.seed, 10_000 + self.iteration))

    @property
    def _parameter_device(self) -> torch.device:
        """Where the parameters lie; `self.device` knows it only once Lightning has moved the module."""
        return self.parameters_vector.vector.device

    def _restart_environments(self) -> None:
        """Begin new episodes, with seeds of this iteration's own; those of iteration 0 were the run's first."""
        first, count = self.group.rank * self.config.num_envs, self.config.num_envs
        self.collector.restart(environment_seeds(self.config.seed, first, count, TRAINING, 1 + self.iteration))
