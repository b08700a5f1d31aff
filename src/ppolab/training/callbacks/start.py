"""Bring a run to where its first iteration begins."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from ppolab.training.module import OnPolicyModule


class Start(pl.Callback):
    """Go on from a checkpoint, or fill the running statistics of a new run.

    This waits for Lightning, which seeds the global generators again when it joins several ranks.

    Args:
        state: of the first rank's checkpoint; None begins a new run.
    """

    def __init__(self, state: dict[str, Any] | None) -> None:
        self._state = state

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the module."""
        assert isinstance(pl_module, OnPolicyModule)
        pl_module.start(self._state)
