"""Make the environments anew with the arguments that a callback of the user asked for."""

from __future__ import annotations

import pytorch_lightning as pl

from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.module import OnPolicyModule


class ChangeEnv(IterationCallback):
    """Follow `OnPolicyModule.change_env_kwargs` before the first iteration, and after each, on all ranks."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow what was asked for before the first iteration."""
        assert isinstance(pl_module, OnPolicyModule)
        pl_module.follow_env_kwargs()

    def after_iteration(self, trainer: pl.Trainer, module: OnPolicyModule, metrics: dict[str, float]) -> None:
        """Follow what was asked for since."""
        module.follow_env_kwargs()
