"""One training run from configuration to result: builds the parts, the Trainer, and the services around them."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from ppolab.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ppolab.config import Config, flattened, objective_names, to_yaml
from ppolab.envs import EVALUATION, TRAINING, VectorEnv, choose_backend, environment_seeds, make_vector_env
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.evaluate import EvalResult, RenderError, evaluate_policy, record_video
from ppolab.history import MetricsFile, plot_learning_curve
from ppolab.module import PPOModule, make_optimizer
from ppolab.progress import ProgressDisplay
from ppolab.runs import OUTPUTS, FoundRun, RunFolder
from ppolab.tracking import (
    MlflowTracker,
    NoTracker,
    RunDescription,
    RunStatus,
    Tracker,
    environment_tags,
    redact,
    resolve_tracking_uri,
    ui_command,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialOfStudy:
    """What ties a run to the trial of a study.

    Attributes:
        report: (environment steps, objective so far) -> whether to stop, because others have done better.
        run_name: of the tracking run. parent_run_id: the one that it belongs to. tags: further ones.
    """

    report: Callable[[int, float], bool]
    run_name: str
    parent_run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """What a finished run reports.

    Attributes:
        pruned: it was stopped because other trials of its study have done better.
        metrics: the last value of every metric. seconds: of this call, from the first rollout to the last evaluation.
        steps: environment steps in all; new_steps: those of this call.
    """

    config: Config
    folder: RunFolder
    run_id: str | None
    tracking_uri: str | None
    metrics: dict[str, float]
    steps: int
    new_steps: int
    seconds: float
    best_return: float
    pruned: bool

    @property
    def objectives(self) -> tuple[float, ...]:
        """The values a sweep judges; NaN for what the run never measured."""
        return tuple(self.metrics.get(name, math.nan) for name in objective_names(self.config))

    @property
    def summary(self) -> str:
        """The closing lines for the terminal."""
        metrics = self.metrics
        rows = [
            ("run", self.run_id or "not tracked"),
            ("steps", f"{self.steps:,} in {self.seconds:,.1f} s, {self.new_steps / self.seconds:,.0f} steps/s overall"),
            ("train return", f"{metrics.get('train/return', math.nan):,.1f} (mean of the last 100 episodes)"),
            ("eval return", f"{metrics['eval/return']:,.1f} ± {metrics['eval/return_std']:,.1f}, best "
             f"{self.best_return:,.1f}"),
            ("files", str(self.folder.path)),
            ("evaluate", f"python src/evaluate.py run={self.folder.path}"),
        ]  # fmt: skip
        if self.tracking_uri:
            rows.append(("compare", ui_command(self.tracking_uri)))
        return "\n".join(f"{name:<13} {value}" for name, value in rows)


def run(config: Config, folder: Path, resume: FoundRun | None = None, trial: TrialOfStudy | None = None) -> RunResult:
    """Train as `config` says; every file goes to `folder`. `trial`: the run is one of a study's.

    Raises:
        ConfigError: something only now known to be impossible (no GPU, a finished run to resume).
        EnvError, TrainingError: see their docstrings; the MLflow run is marked FAILED.
        InterruptedRun: after SIGINT or SIGTERM; everything is saved, the MLflow run is marked KILLED.
    """
    _quiet_lightning()
    accelerator = _accelerator(config)
    make_optimizer(config, torch.nn.Parameter(torch.zeros(1)))  # a mistake in it shows before anything is written
    torch.set_num_threads(config.trainer.threads or 1)  # small networks lose by more
    pl.seed_everything(config.seed, verbose=False)
    checkpoint = _checkpoint_of(resume) if resume else None
    _check_resumable(config, checkpoint)
    backend = choose_backend(config.env)
    env = make_vector_env(config.env, environment_seeds(config.seed, 0, config.num_envs, TRAINING), backend)
    eval_seeds = environment_seeds(config.seed, 0, config.eval_episodes, EVALUATION)
    eval_env = make_vector_env(config.env, eval_seeds, backend)
    module = PPOModule(config, env)
    if checkpoint:
        module.restore_on_start(checkpoint.module)
    log.info("%s on %s: %d environments x %d steps", config.env.id, backend, config.num_envs, config.rollout_steps)
    files = RunFolder(folder)
    files.path.mkdir(parents=True, exist_ok=True)
    files.config.write_text(to_yaml(config))
    services = RunServices(config, files, module, eval_env, checkpoint, trial)
    try:
        return services.fit(accelerator)
    finally:
        env.close()
        eval_env.close()


class RunServices(pl.Callback):
    """All that happens around the iterations: metrics, progress, evaluation, checkpoints, signals, artifacts."""

    def __init__(
        self,
        config: Config,
        files: RunFolder,
        module: PPOModule,
        eval_env: VectorEnv,
        checkpoint: Checkpoint | None,
        trial: TrialOfStudy | None,
    ) -> None:
        self._config = config
        self._trial = trial
        self._pruned = False
        self._files = files
        self._module = module
        self._eval_env = eval_env
        self._first_step = checkpoint.module["steps"] if checkpoint else 0
        self._earlier_id = checkpoint.run_id if checkpoint else None
        best = checkpoint.best_return if checkpoint else None
        self._best_return = -math.inf if best is None else best
        self._metrics: dict[str, float] = {}
        self._signal: int | None = None
        self._tracking_uri = self._resolved_uri()
        self._tracker = self._open_tracker(checkpoint)
        self._history = MetricsFile(files.metrics, self._first_step)
        self._progress = ProgressDisplay(config.total_steps, self._first_step)
        self._next_eval = _next_multiple(self._first_step, config.eval_interval)
        self._next_checkpoint = _next_multiple(self._first_step, config.checkpoint_interval)

    def fit(self, accelerator: str) -> RunResult:
        """Train to the end, or to a signal; leaves every file in place and the tracking run marked."""
        trainer = pl.Trainer(
            accelerator=accelerator, devices=1, max_epochs=1, callbacks=[self], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        status: RunStatus = "FAILED"
        started = time.perf_counter()
        try:
            with self._catching_signals(), self._progress:
                trainer.fit(self._module)
            if self._signal is not None:
                status = "KILLED"
                raise InterruptedRun(self._interruption())
            seconds = time.perf_counter() - started
            self._store_pictures()
            status = "PRUNED" if self._pruned else "FINISHED"
        except KeyboardInterrupt:  # a signal while the pictures are drawn, after the last checkpoint
            status = "KILLED"
            raise
        finally:
            self._history.close()
            run_id = self._close_tracker(status)
        return RunResult(
            self._config, self._files, run_id, self._tracking_uri, self._metrics, self._module.steps,
            self._module.steps - self._first_step, seconds, self._best_return, self._pruned,
        )  # fmt: skip

    # --- Lightning's hooks ---------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has just put handlers of its own in place of ours."""
        self._install_handlers()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every iteration."""
        steps = self._module.steps
        finished = steps >= self._config.total_steps
        self._record(steps, outputs)
        self._progress.update(steps, self._metrics)
        if finished or (self._next_eval and steps >= self._next_eval and self._signal is None):
            self._evaluate(steps)
            self._next_eval = _next_multiple(steps, self._config.eval_interval)
            self._pruned = not finished and self._is_to_be_pruned(steps)
        stopping = finished or self._pruned or self._signal is not None
        if stopping or (self._next_checkpoint and steps >= self._next_checkpoint):
            self._save("last")
            self._next_checkpoint = _next_multiple(steps, self._config.checkpoint_interval)
        trainer.should_stop = stopping

    # --- parts ---------------------------------------------------------------------------------------------------

    def _record(self, steps: int, metrics: dict[str, float]) -> None:
        self._metrics |= metrics
        self._history.write(steps, metrics)
        self._tracker.log_metrics(metrics, steps)

    def _evaluate(self, steps: int) -> EvalResult:
        result = evaluate_policy(self._module.policy, self._eval_env, self._module.native)
        self._record(steps, result.metrics)
        if result.mean > self._best_return:
            self._best_return = result.mean
            self._save("best")
        return result

    def _is_to_be_pruned(self, steps: int) -> bool:
        value = self._metrics.get(objective_names(self._config)[0], math.nan)
        return self._trial is not None and math.isfinite(value) and self._trial.report(steps, value)

    def _save(self, name: str) -> None:
        best = self._best_return if math.isfinite(self._best_return) else None
        run_id = self._tracker.run_id or self._earlier_id  # the store may not have answered yet
        state = Checkpoint(to_yaml(self._config), self._module.state(), best, run_id)
        save_checkpoint(state, self._files.checkpoint(name))
        self._files.write_record(run_id, redact(self._tracking_uri or ""))

    def _store_pictures(self) -> None:
        title = f"{self._config.env.id}, seed {self._config.seed}"
        plot_learning_curve(self._files.metrics, title, self._files.curve)
        if self._config.logger.video:
            target = self._files.path / "video.mp4"
            try:
                record_video(self._module.policy, self._config.env, self._config.seed, target)
            except RenderError as error:
                log.info("%s", error)

    def _resolved_uri(self) -> str | None:
        if self._config.logger.kind == "none":
            return None
        return resolve_tracking_uri(self._config.logger.tracking_uri, OUTPUTS)

    def _open_tracker(self, checkpoint: Checkpoint | None) -> Tracker:
        if self._tracking_uri is None:
            return NoTracker()
        config, trial = self._config, self._trial
        parameters = {key: value for key, value in flattened(config).items() if key != "logger.tracking_uri"}
        description = RunDescription(
            experiment=config.logger.experiment,
            run_name=trial.run_name if trial else config.logger.run_name or f"{config.env.id}-seed{config.seed}",
            parameters=parameters,
            tags=environment_tags() | (dict(trial.tags) if trial else {}),
            parent_run_id=trial.parent_run_id if trial else None,
            resume_run_id=checkpoint.run_id if checkpoint else None,
        )
        return MlflowTracker(description, self._tracking_uri, self._files.backlog)

    def _close_tracker(self, status: RunStatus) -> str | None:
        for path in (self._files.config, self._files.metrics, self._files.curve, self._files.path / "video.mp4"):
            if path.is_file():
                self._tracker.log_artifact(path)
        for name in ("last", "best"):
            if self._files.checkpoint(name).is_file():
                self._tracker.log_artifact(self._files.checkpoint(name), "checkpoints")
        report = self._tracker.close(status)
        self._files.write_record(report.run_id or self._earlier_id, redact(self._tracking_uri or ""))
        if report.unsent_metrics or report.unsent_artifacts:
            log.warning(
                "the tracking store did not take %d metrics and %d files (%s); they are kept in %s",
                report.unsent_metrics, report.unsent_artifacts, report.error, self._files.path,
            )  # fmt: skip
        return report.run_id

    # --- signals -------------------------------------------------------------------------------------------------

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._install_handlers()
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _install_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks for a stop after this iteration, so that what is saved is whole."""
        if self._signal is None:
            log.warning("%s: saving after this iteration, then stopping", signal.Signals(number).name)
        self._signal = number

    def _interruption(self) -> str:
        return (
            f"stopped after {self._module.steps:,} of {self._config.total_steps:,} steps, everything is saved; "
            f"go on with: python src/train.py resume={self._files.path}"
        )


def _next_multiple(steps: int, interval: int) -> int:
    """The first multiple of `interval` beyond `steps`; 0 when there is no interval."""
    return (steps // interval + 1) * interval if interval else 0


def _checkpoint_of(found: FoundRun) -> Checkpoint:
    """With the id of its tracking run: a checkpoint may be older than the store's first answer, run.json is not."""
    checkpoint = load_checkpoint(found.checkpoint)
    return replace(checkpoint, run_id=found.folder.run_id() or checkpoint.run_id)


def _check_resumable(config: Config, checkpoint: Checkpoint | None) -> None:
    if checkpoint and checkpoint.module["steps"] >= config.total_steps:
        raise ConfigError(
            f"total_steps={config.total_steps}: the run has already taken {checkpoint.module['steps']} steps; "
            f"go on with a larger one, such as total_steps={2 * config.total_steps}"
        )


def _accelerator(config: Config) -> str:
    wanted = config.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer=gpu: PyTorch finds no GPU here; use trainer=cpu or trainer=auto")
    if wanted == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return wanted


def _quiet_lightning() -> None:
    """Its notices about hardware and data loading are not about this program."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode.*")
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
