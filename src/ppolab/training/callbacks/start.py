"""Bring a run to where its first iteration begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from ppolab.training.module import OnPolicyModule
from ppolab.training.user_callbacks import load_states
from ppolab.training.warm_start import WarmStart


@dataclass(frozen=True)
class Beginning:
    """Hold where a run begins, the same on all ranks.

    Attributes:
        state: of the first rank's checkpoint; None begins a new run.
        taken: what a new run takes from an earlier one.
        evaluated_at: the step of the last evaluation that is recorded; None before the first.
        until: the step at which the run ends, where that is before `total_steps`.
    """

    state: dict[str, Any] | None = None
    taken: WarmStart | None = None
    evaluated_at: int | None = None
    until: int | None = None

    @property
    def first_step(self) -> int:
        """Environment steps that the run has taken before."""
        return self.state["steps"] if self.state else 0


class Start(pl.Callback):
    """Go on from a checkpoint, or fill the running statistics of a new run.

    This waits for Lightning, which seeds the global generators again when it joins several ranks.

    Args:
        users: the user's callbacks, which go on from their states in the checkpoint.
    """

    def __init__(self, beginning: Beginning, users: Sequence[pl.Callback] = ()) -> None:
        self._beginning = beginning
        self._users = users

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the module."""
        assert isinstance(pl_module, OnPolicyModule)
        pl_module.start(self._beginning.state, self._beginning.taken)
        load_states(self._users, (self._beginning.state or {}).get("callbacks", {}))
