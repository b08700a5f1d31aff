"""Record the metrics of every iteration."""

from __future__ import annotations

import pytorch_lightning as pl

from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.module import OnPolicyModule
from ppolab.training.recorder import RunRecorder


class Recording(IterationCallback):
    """Write metrics to the file and to the tracking store, in a folder that is made again where it was removed."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Record the iteration."""
        self._recorder.check_folder()
        self._recorder.record(module.steps, metrics)
