"""Decide, on all ranks alike, when a run ends."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import pytorch_lightning as pl

from ppolab.records.run_folder import RunFolder
from ppolab.runtime.signals import SIGNALS, in_main_thread
from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.module import OnPolicyModule
from ppolab.training.recorder import RunRecorder
from ppolab.training.resume import how_to_go_on
from ppolab.training.watchdog import end_at_once

log = logging.getLogger(__name__)


class Stopping(IterationCallback):
    """Stop at `total_steps`, or after the iteration in which any rank got a signal; a second signal ends it at once.

    Args:
        recorder, files: of the first rank; None on others.
        own_process: the process is there for this run alone, and may be ended; else KeyboardInterrupt is raised.

    Attributes:
        interrupted: a signal ends the run before `total_steps`.
        ended_at_once: a second signal did, by KeyboardInterrupt, of which Lightning makes something else.
        checkpoint_wanted: the run's folder was removed, so that a checkpoint is due at once.
    """

    def __init__(
        self,
        total_steps: int,
        recorder: RunRecorder | None,
        files: RunFolder | None = None,
        *,
        own_process: bool = True,
    ) -> None:
        self.interrupted = False
        self.ended_at_once = False
        self.checkpoint_wanted = False
        self._total_steps = total_steps
        self._recorder = recorder
        self._files = files
        self._finished = False
        self._own_process = own_process
        self._signal: int | None = None

    @property
    def got_signal(self) -> bool:
        """Whether this process got a signal, be it too late to end the training early."""
        return self._signal is not None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM; what the first one asks for happens once the iteration is whole."""
        if self._signal is None:
            self._signal = number
            if self._recorder is not None:
                name = signal.Signals(number).name
                what = (
                    "ending after the last evaluation"
                    if self._finished
                    else "saving after this iteration, then stopping"
                )
                log.warning("%s: %s; once more to stop now", name, what)
        elif not self._own_process:
            self.ended_at_once = True
            raise KeyboardInterrupt
        elif self._recorder is None or self._files is None:
            end_at_once("interrupted twice", 130)
        else:
            lost = "the last evaluation is missing" if self._finished else "nothing was saved since the last checkpoint"
            self._recorder.give_up(f"interrupted twice: {lost}; {how_to_go_on(self._files)}", "KILLED", 130)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle signals again: Lightning has just put its own handlers there, which hang on other ranks."""
        if in_main_thread():
            for number in SIGNALS:
                signal.signal(number, self.on_signal)
        assert isinstance(pl_module, OnPolicyModule)
        self._finished = pl_module.steps >= self._total_steps
        trainer.should_stop = self._finished  # a run that was killed after its last step

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Ask all ranks."""
        lost = self._recorder is not None and self._recorder.folder_was_lost
        answers = module.group.all_gather((self.got_signal, lost))
        signalled, self.checkpoint_wanted = (any(column) for column in zip(*answers, strict=True))
        self._finished = module.steps >= self._total_steps
        self.interrupted = signalled and not self._finished
        trainer.should_stop = self._finished or signalled


class StopTogether(IterationCallback):
    """Let a stop that a callback of the user asked for on one rank be one of all ranks."""

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Ask all ranks."""
        trainer.should_stop = any(module.group.all_gather(bool(trainer.should_stop)))
