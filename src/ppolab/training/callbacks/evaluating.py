"""Evaluate the policy now and then, and keep the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl

from ppolab.agents.evaluation import evaluate_policy
from ppolab.config.schema import Config
from ppolab.envs.factory import EVALUATION, VectorEnv, environment_seeds
from ppolab.envs.seeding import private_generators
from ppolab.training.callbacks.callback_base import Interval, IterationCallback
from ppolab.training.callbacks.start import Beginning
from ppolab.training.callbacks.stopping import Stopping
from ppolab.training.module import OnPolicyModule
from ppolab.training.progress_bar import announce
from ppolab.training.recorder import RunRecorder
from ppolab.training.user_callbacks import with_states


@dataclass(frozen=True)
class Evaluated:
    """Hold an evaluation's metrics, and whether no earlier one was as good."""

    metrics: dict[str, float] = field(default_factory=dict)
    is_best: bool = False


class Evaluation(IterationCallback):
    """Evaluate at every multiple of `eval_interval`, and at the end of a run that was not interrupted.

    A checkpoint comes before the last evaluation, so that a run which is killed there only lacks this evaluation. An
    evaluation that is due in the iteration after which a signal stops the run is made when the run goes on.

    Args:
        recorder, env: of the first rank, which evaluates; None on others.
        users: the user's callbacks, whose states on the first rank are kept.
    """

    def __init__(
        self,
        config: Config,
        beginning: Beginning,
        stopping: Stopping,
        recorder: RunRecorder | None,
        env: VectorEnv | None,
        users: Sequence[pl.Callback] = (),
    ) -> None:
        self._config = config
        self._interval = Interval(config.steps_between_evaluations, beginning.first_step)
        self._stopping = stopping
        self._recorder = recorder
        self._env = env
        self._users = users
        self._evaluated_at = beginning.evaluated_at

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the evaluation that the stopped run still owed."""
        assert isinstance(pl_module, OnPolicyModule)
        if pl_module.evaluation_due:
            self._evaluate(pl_module)

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Evaluate if it is time; the last evaluation waits for the end."""
        if not self._interval.passed(module.steps):
            return
        if self._stopping.interrupted:
            module.evaluation_due = True
        elif not trainer.should_stop:
            self._evaluate(module)

    def after_training(self, module: OnPolicyModule) -> None:
        """Evaluate what training came to."""
        if not self._stopping.interrupted and self._evaluated_at != module.steps:
            state = module.state(barrier=False)
            if self._recorder is not None:
                self._recorder.save("last", with_states(state, self._users))
                announce(f"evaluating the policy in {self._config.eval_episodes} episodes")
            self._evaluate(module)

    def _evaluate(self, module: OnPolicyModule) -> None:
        self._evaluated_at = module.steps
        module.evaluation_due = False
        found = module.group.broadcast(self._evaluated(module))
        module.evaluation = found.metrics
        if found.is_best:
            state = module.state(barrier=False)
            if self._recorder is not None:
                self._recorder.save("best", state)

    def _evaluated(self, module: OnPolicyModule) -> Evaluated:
        """Evaluate and record, on the first rank."""
        if self._recorder is None or self._env is None:
            return Evaluated()
        episodes = self._config.eval_episodes
        seeds = environment_seeds(self._config.seed, 0, episodes, EVALUATION, module.iteration)
        with private_generators(seeds[0]):
            self._env.restart(seeds)
            result = evaluate_policy(module.policy, self._env, module.native)
        self._recorder.record(module.steps, result.metrics)
        is_best = result.mean > self._recorder.best_return
        if is_best:
            self._recorder.best_return = result.mean
        return Evaluated(result.metrics, is_best)
