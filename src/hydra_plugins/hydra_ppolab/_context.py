"""Hold what a multirun works with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._composer import Composer


@dataclass(frozen=True)
class Multirun:
    """Hold what Hydra hands to a sweeper, and `hydra.sweeper.*` as settings by name."""

    settings: dict[str, Any]
    context: HydraContext
    config: DictConfig
    launcher: Launcher

    @cached_property
    def composer(self) -> Composer:
        """What composes the jobs."""
        from hydra_plugins.hydra_ppolab._composer import Composer

        return Composer(self.context, self.config)
