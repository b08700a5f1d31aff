"""Write a run's metrics for TensorBoard, by Lightning's own logger."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ppolab.config.schema import Config
from ppolab.errors import ConfigError


def check_tensorboard(config: Config) -> None:
    """Raise ConfigError where `logger=tensorboard` needs a package that is not installed."""
    if config.logger.kind == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "logger=tensorboard: the package tensorboard is not installed; pip install 'ppolab[tensorboard]'"
        )


class TensorBoardEvents:
    """Write metrics and hyperparameters into `folder`.

    Args:
        rows: what a resumed run recorded before; it is written again, in place of all points that are there: the last
            of them may never have reached the disk, or may lie beyond the checkpoint.
    """

    def __init__(
        self, folder: Path, hyperparameters: Mapping[str, Any], rows: Iterable[tuple[int, Mapping[str, float]]]
    ) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger

        self._logger = TensorBoardLogger(
            folder.parent, name=folder.name, version="", default_hp_metric=False, purge_step=0
        )
        self._logger.log_hyperparams(dict(hyperparameters))
        for steps, metrics in rows:
            self.log_metrics(metrics, steps)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write `metrics` at `step` environment steps."""
        self._logger.log_metrics(dict(metrics), step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._logger.finalize("success")
