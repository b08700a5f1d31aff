"""Bring a run to where its first iteration begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from ppolab.training.module import OnPolicyModule
from ppolab.training.user_callbacks import load_states


class Start(pl.Callback):
    """Go on from a checkpoint, or fill the running statistics of a new run.

    This waits for Lightning, which seeds the global generators again when it joins several ranks.

    Args:
        state: of the first rank's checkpoint; None begins a new run.
        users: the user's callbacks, which go on from their states in it.
    """

    def __init__(self, state: dict[str, Any] | None, users: Sequence[pl.Callback] = ()) -> None:
        self._state = state
        self._users = users

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the module."""
        assert isinstance(pl_module, OnPolicyModule)
        pl_module.start(self._state)
        load_states(self._users, (self._state or {}).get("callbacks", {}))
