"""Hold what a multirun works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig


@dataclass(frozen=True)
class Multirun:
    """Hold what Hydra hands to a sweeper, and `hydra.sweeper.*` as settings by name."""

    settings: dict[str, Any]
    context: HydraContext
    config: DictConfig
    launcher: Launcher
