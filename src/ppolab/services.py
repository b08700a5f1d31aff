"""All that happens around the iterations of a run: metrics, progress, evaluation, checkpoints, signals, artifacts."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl

from ppolab.checkpoint import Checkpoint, save_checkpoint
from ppolab.config import Config, flattened, objective_names, run_metrics, to_yaml
from ppolab.envs import EVALUATION, VectorEnv, environment_seeds
from ppolab.errors import CheckpointError, InterruptedRun
from ppolab.evaluate import RenderError, evaluate_policy, record_video
from ppolab.history import MetricsFile, plot_learning_curve, read_metrics
from ppolab.module import PPOModule
from ppolab.progress import ProgressDisplay
from ppolab.redaction import redact
from ppolab.resuming import records_may_differ
from ppolab.runs import OUTPUTS, RunFolder, write_whole
from ppolab.tracking import (
    MlflowTracker,
    NoTracker,
    RunDescription,
    RunStatus,
    Tracker,
    environment_tags,
    resolve_tracking_uri,
    ui_command,
)
from ppolab.watchdog import end_at_once, watched

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to save and end."""


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


class Pace(pl.Callback):
    """When to evaluate, to save and to stop: the same in every process of a run. All but the first do nothing more."""

    def __init__(self, config: Config, module: PPOModule) -> None:
        self._config = config
        self._module = module
        self._next_eval = _next_multiple(module.first_step, config.eval_interval)
        self._next_checkpoint = _next_multiple(module.first_step, config.checkpoint_interval)
        self._signal: int | None = None
        self._interrupted = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has just put handlers of its own in place of ours; in other processes than the first they hang."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every iteration."""
        steps, processes = self._module.steps, self._module.processes
        self.record(steps, outputs)
        asked = processes.all_of((self._signal is not None, self.has_lost_its_files))
        interrupted, lost = (any(answers) for answers in zip(*asked, strict=True))
        self._interrupted = interrupted
        finished = steps >= self._config.total_steps
        evaluating = finished or (0 < self._next_eval <= steps and not interrupted)
        saving = finished or interrupted or lost or 0 < self._next_checkpoint <= steps
        pruned = False
        ending = finished or interrupted  # a run that takes no more steps needs no environments
        state = self._module.state(barrier=saving and not ending) if evaluating or saving else {}
        if evaluating:
            self._next_eval = _next_multiple(steps, self._config.eval_interval)
            pruned = processes.first_of(self.evaluate(steps, state)) and not finished
        if saving or pruned:
            self._next_checkpoint = _next_multiple(steps, self._config.checkpoint_interval)
            self.save("last", state)
        trainer.should_stop = finished or interrupted or pruned

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks all processes for a stop after this iteration, so that what is saved is whole."""
        if self._signal is not None:
            end_at_once("interrupted twice", 130)
        self._signal = number

    @property
    def has_lost_its_files(self) -> bool:
        """Whether the run's folder was removed, and its checkpoints with it."""
        return False

    def record(self, steps: int, metrics: dict[str, float]) -> None:
        """Metrics of an iteration."""

    def evaluate(self, steps: int, state: dict[str, Any]) -> bool:
        """Evaluate the policy; whether the run is to be pruned. `state`: the module's, for a checkpoint."""
        return False

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint."""


class RunServices(Pace):
    """What the first process, often the only one, does beside: everything that is shown, written or sent."""

    def __init__(
        self,
        config: Config,
        files: RunFolder,
        module: PPOModule,
        eval_env: VectorEnv,
        checkpoint: Checkpoint | None,
        trial: TrialOfStudy | None,
    ) -> None:
        super().__init__(config, module)
        self._trial = trial
        self._pruned = False
        self._files = files
        self._eval_env = eval_env
        self._earlier_id = checkpoint.run_id if checkpoint else None
        best = checkpoint.best_return if checkpoint else None
        self._best_return = -math.inf if best is None else best
        self._metrics: dict[str, float] = {}
        self._unsaved: CheckpointError | None = None
        self._lost = False
        self._tracking_uri = self._resolved_uri()
        self._tracker = self._open_tracker(checkpoint)
        self._history = MetricsFile(files.metrics, run_metrics(config), module.first_step)
        self._progress = ProgressDisplay(config.total_steps, module.first_step)
        for row in read_metrics(files.metrics):  # of a resumed run: what the store may never have got
            self._tracker.log_metrics({key: value for key, value in row.items() if key != "step"}, int(row["step"]))

    def fit(self, trainer: pl.Trainer) -> RunResult:
        """Train to the end, or to a signal; leaves every file in place and the tracking run marked."""
        status: RunStatus = "FAILED"
        started = time.perf_counter()
        try:
            with _signals_handled_by(self._on_signal), self._progress, self._watchdog():
                trainer.fit(self._module)
            if (self._interrupted or self._signal is not None) and self._unsaved is None:
                status = "KILLED"
                raise InterruptedRun(self._interruption())
            seconds = time.perf_counter() - started
            self._store_pictures()
            if self._unsaved is not None:
                raise self._unsaved
            status = "PRUNED" if self._pruned else "FINISHED"
        except KeyboardInterrupt:  # a signal while the pictures are drawn, after the last checkpoint
            status = "KILLED"
            raise
        finally:
            self._history.close()
            finished = status in ("FINISHED", "PRUNED")
            self._note(finished=finished)  # a second signal ends the wait for the store
            with _signals_handled_by(signal.default_int_handler):
                run_id = self._close_tracker(status)
            self._note(finished=finished)
        return RunResult(
            self._config, self._files, run_id, self._tracking_uri, self._metrics, self._module.steps,
            self._module.steps - self._module.first_step, seconds, self._best_return, self._pruned,
        )  # fmt: skip

    def _watchdog(self) -> AbstractContextManager[None]:
        return watched((self._module.env, self._eval_env), self._config.env.timeout, self._end_at_once)

    def _end_at_once(self, problem: str, status: RunStatus = "FAILED", code: int = 1) -> NoReturn:
        """The end of a run whose main thread is stuck."""
        self._history.close()
        self._close_tracker(status)
        self._note(finished=False)
        end_at_once(problem, code)

    # --- of every iteration ------------------------------------------------------------------------------------------

    @property
    def has_lost_its_files(self) -> bool:
        return self._lost

    def record(self, steps: int, metrics: dict[str, float]) -> None:
        self._lost = not self._files.config.exists() and self._make_folder_again()
        self._add(steps, metrics)
        self._progress.update(steps, self._metrics)

    def evaluate(self, steps: int, state: dict[str, Any]) -> bool:
        generation, episodes = self._module.iteration, self._config.eval_episodes
        self._eval_env.restart(environment_seeds(self._config.seed, 0, episodes, EVALUATION, generation))
        result = evaluate_policy(self._module.policy, self._eval_env, self._module.native)
        self._add(steps, result.metrics)
        if result.mean > self._best_return:
            self._best_return = result.mean
            self.save("best", state)
        self._pruned = steps < self._config.total_steps and self._is_to_be_pruned(steps)
        return self._pruned

    def save(self, name: str, state: dict[str, Any]) -> None:
        best = self._best_return if math.isfinite(self._best_return) else None
        checkpoint, keep = Checkpoint(to_yaml(self._config), state, best, self._run_id), self._config.keep_checkpoints
        problem = None
        try:
            save_checkpoint(checkpoint, self._files.checkpoint(name), keep if name == "last" else 1)
        except CheckpointError as error:
            problem = error
            log.warning("%s; training goes on, with the one before it kept", error)
        if name == "last":
            self._unsaved = problem
        self._note()

    # --- parts ---------------------------------------------------------------------------------------------------

    @property
    def _run_id(self) -> str | None:
        return self._tracker.run_id or self._earlier_id  # the store may not have answered yet

    def _note(self, *, finished: bool = False) -> None:
        """In run.json; what is not known there, the checkpoint and the tracking store know."""
        with contextlib.suppress(OSError):
            self._files.write_record(self._run_id, redact(self._tracking_uri or ""), finished=finished)

    def _make_folder_again(self) -> bool:
        """Whether that was possible. Metrics come back by themselves, and the next checkpoint is due at once."""
        try:
            self._files.path.mkdir(parents=True, exist_ok=True)
            write_whole(self._files.config, to_yaml(self._config))
        except OSError:
            return False
        self._note()
        log.warning("%s was removed: it is made again, with all metrics and a checkpoint of now", self._files.path)
        return True

    def _add(self, steps: int, metrics: Mapping[str, float]) -> None:
        self._metrics |= metrics
        self._history.write(steps, metrics)
        self._tracker.log_metrics(metrics, steps)

    def _is_to_be_pruned(self, steps: int) -> bool:
        value = self._metrics.get(objective_names(self._config)[0], math.nan)
        return self._trial is not None and math.isfinite(value) and self._trial.report(steps, value)

    def _store_pictures(self) -> None:
        title = f"{self._config.env.id}, seed {self._config.seed}"
        try:
            plot_learning_curve(self._files.metrics, title, self._files.curve)
            if self._config.logger.video:
                target = self._files.path / "video.mp4"
                record_video(self._module.policy, self._config.env, self._config.seed, target)
        except RenderError as error:
            log.info("%s", error)
        except OSError as error:
            log.warning("%s: no learning curve or video: %s", self._files.path, error.strerror or error)

    def _resolved_uri(self) -> str | None:
        if self._config.logger.kind == "none":
            return None
        return resolve_tracking_uri(self._config.logger.tracking_uri, OUTPUTS)

    def _open_tracker(self, checkpoint: Checkpoint | None) -> Tracker:
        if self._tracking_uri is None:
            return NoTracker()
        config, trial = self._config, self._trial
        parameters = {key: value for key, value in flattened(config).items() if key != "logger.tracking_uri"}
        otherwise = checkpoint is not None and records_may_differ(checkpoint.config, config)
        description = RunDescription(
            experiment=config.logger.experiment,
            run_name=trial.run_name if trial else config.logger.run_name or f"{config.env.id}-seed{config.seed}",
            parameters=parameters,
            tags=environment_tags() | (dict(trial.tags) if trial else {}),
            parent_run_id=trial.parent_run_id if trial else None,
            resume_run_id=checkpoint.run_id if checkpoint else None,
            shared_steps=self._module.first_step if otherwise else None,
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
        if report.unsent_metrics or report.unsent_artifacts:
            log.warning(
                "the tracking store did not take %d metrics and %d files (%s); they are kept in %s",
                report.unsent_metrics, report.unsent_artifacts, report.error, self._files.path,
            )  # fmt: skip
        return report.run_id

    # --- signals -------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self._end_at_once("interrupted twice: nothing was saved since the last checkpoint", "KILLED", 130)
        log.warning(
            "%s: saving after this iteration, then stopping; once more to stop now", signal.Signals(number).name
        )
        self._signal = number

    def _interruption(self) -> str:
        return (
            f"stopped after {self._module.steps:,} of {self._config.total_steps:,} steps, everything is saved; "
            f"go on with: python src/train.py resume={self._files.path}"
        )


@contextmanager
def _signals_handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)


def _next_multiple(steps: int, interval: int) -> int:
    """The first multiple of `interval` beyond `steps`; 0 when there is no interval."""
    return (steps // interval + 1) * interval if interval else 0
