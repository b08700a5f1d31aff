"""Record a run: its metrics, checkpoints and files, in its folder and in the tracking store."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch

from ppolab.config.loading import to_yaml
from ppolab.config.metrics import run_metrics
from ppolab.config.recorded import recorded_settings
from ppolab.config.schema import Config
from ppolab.errors import CheckpointError, InterruptedRun
from ppolab.learning.native.library import compiler
from ppolab.records.checkpoint import Checkpoint, save_checkpoint
from ppolab.records.metrics_file import MetricsFile, metrics_by_step
from ppolab.records.run_folder import OUTPUTS, RunFolder, write_whole
from ppolab.records.tracking import (
    KIND_TAG,
    NOTE_TAG,
    MlflowTracker,
    NotedTracker,
    NoTracker,
    RelayedTracker,
    RunDescription,
    RunStatus,
    Tracker,
    environment_tags,
    resolve_tracking_uri,
)
from ppolab.records.versions import machine, package_versions, write_versions
from ppolab.redaction import redact
from ppolab.runtime.fast_imports import lean_mlflow
from ppolab.runtime.signals import signals_handled_by
from ppolab.training.resume import records_may_differ
from ppolab.training.run_note import run_note
from ppolab.training.tensorboard_events import TensorBoardEvents
from ppolab.training.trial import TrialOfStudy
from ppolab.training.warm_start import WarmStart
from ppolab.training.watchdog import end_at_once

log = logging.getLogger(__name__)

WARNINGS_TAG = "ppolab.warnings"


@contextmanager
def recorded_run(
    config: Config,
    files: RunFolder,
    checkpoint: Checkpoint | None,
    trial: TrialOfStudy | None,
    taken: WarmStart | None = None,
) -> Iterator[RunRecorder]:
    """Open the records of a run, and close them with how the block ended.

    The status is FINISHED or PRUNED where the block called `complete`, KILLED after an interrupt, FAILED otherwise.

    Args:
        checkpoint: where the run goes on; metrics beyond it are dropped. trial: the run is one of a study's.
        taken: what a new run takes from an earlier one.
    """
    name = _run_name(config, trial, files.name() if checkpoint else None)
    text = to_yaml(config)
    write_whole(files.config, text)
    write_versions(files.versions, {**package_versions(), **machine(), **_computes_with(config)})
    first_step = checkpoint.module["steps"] if checkpoint else 0
    uri = None
    if config.logger.kind != "none":
        uri = resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)
    tracker: Tracker = NoTracker()
    if uri is not None:
        description = _description(name, config, checkpoint, trial, taken)
        if trial is not None and trial.records is not None:
            tracker = RelayedTracker(description, uri, files.backlog, trial.records)
        else:
            tracker = MlflowTracker(description, uri, files.backlog, importing=lean_mlflow)
            if trial is not None:  # the sweep's next command sends what this process cannot
                tracker = NotedTracker(tracker, description, files.path)
    metrics_file = MetricsFile(files.metrics, run_metrics(config), first_step)
    earlier = metrics_by_step(files.metrics)  # of a resumed run
    events = None
    if config.logger.kind == "tensorboard":
        events = TensorBoardEvents(files.tensorboard, recorded_settings(config), earlier)
    recorder = RunRecorder(config, text, files, tracker, uri, metrics_file, checkpoint, name, events)
    for steps, metrics in earlier:
        recorder.take_in(metrics, steps)
    recorder.describe(None)
    try:
        yield recorder
    except (InterruptedRun, KeyboardInterrupt):
        recorder.close(recorder.end or "KILLED")
        raise
    except BaseException:
        recorder.close("FAILED")
        raise
    recorder.close(recorder.end or "FAILED")


class RunRecorder:
    """Write what a run leaves. The first rank has one; the others have none.

    Args:
        config_text: `config` as YAML, which takes longer to write than a checkpoint.

    Attributes:
        metrics: the last value of every metric.
        best_return: the highest eval/return so far, -inf before the first evaluation.
        folder_was_lost: whether the run's folder had been removed when the last iteration ended, and its checkpoints
            with it.
        end: how the run came to its end; None until `complete`.
        evaluated_at: the step of the last evaluation that is recorded; None before the first.
    """

    def __init__(
        self,
        config: Config,
        config_text: str,
        files: RunFolder,
        tracker: Tracker,
        tracking_uri: str | None,
        metrics_file: MetricsFile,
        checkpoint: Checkpoint | None,
        name: str,
        events: TensorBoardEvents | None = None,
    ) -> None:
        best = checkpoint.best_return if checkpoint else None
        self.metrics: dict[str, float] = {}
        self.best_return = -math.inf if best is None else best
        self.folder_was_lost = False
        self.end: RunStatus | None = None
        self.evaluated_at: int | None = None
        self.tracking_uri = tracking_uri
        self._config = config
        self._config_text = config_text
        self._files = files
        self._name = name
        self._tracker = tracker
        self._metrics_file = metrics_file
        self._events = events
        self._earlier_id = checkpoint.run_id if checkpoint else None
        self._unsaved: CheckpointError | None = None
        self._saved_at: int | None = None
        self._steps = 0  # at the last metrics

    @property
    def run_id(self) -> str | None:
        """The tracking store's id of the run; None without tracking, or until the store has answered."""
        return self._tracker.run_id

    @property
    def page(self) -> str | None:
        """The address of the run's page in MLflow; None as long as `run_id` is."""
        return self._tracker.page

    def check_folder(self) -> None:
        """Make the run's folder again if it was removed: metrics come back by themselves, checkpoints do not."""
        self.folder_was_lost = not self._files.config.exists() and self._make_folder_again()

    def take_in(self, metrics: Mapping[str, float], steps: int) -> None:
        """Take in metrics that the file has: the tracking store may never have got them."""
        self._note(steps, metrics)
        self._tracker.log_metrics(metrics, steps)

    def record(self, steps: int, metrics: Mapping[str, float]) -> None:
        """Record metrics after `steps` environment steps, in the file and in the store."""
        self._note(steps, metrics)
        self._metrics_file.write(steps, metrics)
        self._tracker.log_metrics(metrics, steps)
        if self._events is not None:
            self._events.log_metrics(metrics, steps)

    def describe(self, status: RunStatus | None) -> None:
        """Describe the run on its page; `status` None: it has only begun."""
        note = run_note(self._config, self._files.path, status, self._steps, self.metrics, self.best_return)
        self._tracker.set_tags({NOTE_TAG: note})

    def record_warnings(self, names: Sequence[str]) -> None:
        """Tag the run with the warnings that it has had."""
        self._tracker.set_tags({WARNINGS_TAG: ",".join(names)})

    def _note(self, steps: int, metrics: Mapping[str, float]) -> None:
        self.metrics |= metrics
        self._steps = steps
        if "eval/return" in metrics:
            self.evaluated_at = steps

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write the checkpoint `last` or `best`; one that cannot be written is told, and training goes on.

        Args:
            state: `OnPolicyModule.state`.
        """
        best = self.best_return if math.isfinite(self.best_return) else None
        checkpoint = Checkpoint(self._config_text, state, best, self._known_id)
        problem = None
        try:
            again = state["steps"] == self._saved_at  # it takes the place of the one before the last evaluation
            keep = self._config.keep_checkpoints if name == "last" and not again else 1
            save_checkpoint(checkpoint, self._files.checkpoint(name), keep)
        except CheckpointError as error:
            problem = error
            log.warning("%s; training goes on, with the one before it kept", error)
        if name == "last":
            self._unsaved, self._saved_at = problem, state["steps"]
        self._write_record()

    def check_saved(self) -> None:
        """Raise the CheckpointError of the last checkpoint, if it could not be written."""
        if self._unsaved is not None:
            raise self._unsaved

    def complete(self, *, pruned: bool) -> None:
        """Note that training came to its end, and that nothing is left to resume."""
        self.end = "PRUNED" if pruned else "FINISHED"
        self._write_record()

    def close(self, status: RunStatus) -> None:
        """Send the files and what else the tracking store lacks, and mark the run; a signal ends the wait for it.

        Raises:
            KeyboardInterrupt: a signal ended the wait, and the run is not complete.
        """
        with signals_handled_by(lambda _number, _frame: None):  # these are short, and must not be left half done
            self._metrics_file.close()
            if self._events is not None:
                self._events.close()
            self._write_record()
            self._queue_last_records(status)
            try:
                with signals_handled_by(signal.default_int_handler):
                    self._send_last_records(status)
            except KeyboardInterrupt:
                if self.end is None:
                    raise
                log.warning("interrupted after the last step: the run is complete: %s", self._files.path)
            self._write_record()

    def give_up(self, problem: str, status: RunStatus = "FAILED", code: int = 1) -> NoReturn:
        """End a run whose main thread is stuck, with one line."""
        self._metrics_file.close()
        self._queue_last_records(status)
        self._send_last_records(status)
        self._write_record()
        end_at_once(problem, code)

    @property
    def _known_id(self) -> str | None:
        return self._tracker.run_id or self._earlier_id  # the store may not have answered yet

    def _write_record(self) -> None:
        """Write run.json; where it cannot be written, checkpoint and tracking store know the same."""
        with contextlib.suppress(OSError):
            uri, finished = redact(self.tracking_uri or ""), self.end is not None
            self._files.write_record(self._known_id, uri, finished=finished, name=self._name)

    def _make_folder_again(self) -> bool:
        """Return whether that was possible."""
        try:
            self._files.path.mkdir(parents=True, exist_ok=True)
            write_whole(self._files.config, self._config_text)
        except OSError:
            return False
        self._write_record()
        log.warning("%s was removed: it is made again, with all metrics and a checkpoint of now", self._files.path)
        return True

    def _queue_last_records(self, status: RunStatus) -> None:
        files = self._files
        self.describe(status)
        for path in (files.config, files.metrics, files.curve, files.video):
            if path.is_file():
                self._tracker.log_artifact(path)
        for name in ("last", "best"):
            if files.checkpoint(name).is_file():
                self._tracker.log_artifact(files.checkpoint(name), "checkpoints")

    def _send_last_records(self, status: RunStatus) -> None:
        report = self._tracker.close(status)
        if report.unsent_metrics or report.unsent_artifacts:
            log.warning(
                "the tracking store did not take %d metrics and %d files (%s); they are kept in %s",
                report.unsent_metrics,
                report.unsent_artifacts,
                report.error,
                self._files.path,
            )


def _computes_with(config: Config) -> dict[str, str]:
    """Return what else may change the last digits of a number: the device, and the compiler of the C++ code."""
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    return {"device": device, "C++ compiler": compiler() or "none"}


def _run_name(config: Config, trial: TrialOfStudy | None, earlier: str | None) -> str:
    """Return the name of the tracking run; a run that goes on keeps the one that it has, such as that of a grid's."""
    return trial.run_name if trial else earlier or config.logger.run_name or f"{config.env.id}-seed{config.seed}"


def _description(
    name: str, config: Config, checkpoint: Checkpoint | None, trial: TrialOfStudy | None, taken: WarmStart | None
) -> RunDescription:
    """Describe the run to the tracking store."""
    otherwise = checkpoint is not None and records_may_differ(checkpoint.config, config)
    return RunDescription(
        experiment=config.logger.experiment,
        run_name=name,
        parameters=recorded_settings(config),
        tags={KIND_TAG: "run"}
        | environment_tags()
        | (dict(trial.tags) if trial else {})
        | (dict(taken.tags) if taken else {}),
        parent_run_id=trial.parent_run_id if trial else None,
        resume_run_id=checkpoint.run_id if checkpoint else None,
        shared_steps=checkpoint.module["steps"] if checkpoint and otherwise else None,
    )
