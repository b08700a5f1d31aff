"""Save checkpoints of a run to go on from."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl

from ppolab.training.callbacks.callback_base import Interval, IterationCallback
from ppolab.training.callbacks.stopping import Stopping
from ppolab.training.module import OnPolicyModule
from ppolab.training.recorder import RunRecorder
from ppolab.training.user_callbacks import with_states


class Checkpoints(IterationCallback):
    """Save at every multiple of `checkpoint_interval`, at once where the folder was removed, and at the end.

    Args:
        recorder: of the first rank, which writes; None on others, whose state is part of a checkpoint, too.
        users: the user's callbacks, whose states on the first rank are kept.
    """

    def __init__(
        self,
        checkpoint_interval: int,
        first_step: int,
        stopping: Stopping,
        recorder: RunRecorder | None,
        users: Sequence[pl.Callback] = (),
    ) -> None:
        self._interval = Interval(checkpoint_interval, first_step)
        self._stopping = stopping
        self._recorder = recorder
        self._users = users

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Save if it is time; the last checkpoint waits for the end."""
        due = self._interval.passed(module.steps) or self._stopping.checkpoint_wanted
        if due and not trainer.should_stop:
            self._save(module, barrier=True)

    def after_training(self, module: OnPolicyModule) -> None:
        """Save what a longer run would go on from; it takes no more steps, so environments need not begin anew."""
        self._save(module, barrier=False)

    def _save(self, module: OnPolicyModule, *, barrier: bool) -> None:
        state = module.state(barrier=barrier)
        if self._recorder is not None:
            self._recorder.save("last", with_states(state, self._users))
