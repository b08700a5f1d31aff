"""Show the warnings of a run, each once."""

from __future__ import annotations

import logging

import pytorch_lightning as pl

from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.module import OnPolicyModule
from ppolab.training.named_warnings import PAGE, WARNINGS
from ppolab.training.recorder import RunRecorder

log = logging.getLogger(__name__)


class ShowWarnings(IterationCallback):
    """Tell what `OnPolicyModule.watch` has noticed in the log, and tag the run with it."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder
        self._told = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell nothing again that was told before the resume; the store may hold another run, which gets the tag."""
        assert isinstance(pl_module, OnPolicyModule)
        self._told = len(pl_module.watch.shown)
        if self._told:
            self._recorder.record_warnings(pl_module.watch.shown)

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Tell what is new."""
        shown = module.watch.shown
        if len(shown) == self._told:
            return
        for name in shown[self._told :]:
            log.warning(
                "%s: %s, after %s steps; see %s#%s", name, WARNINGS[name].words, f"{module.steps:,}", PAGE, name
            )
        self._told = len(shown)
        self._recorder.record_warnings(shown)
