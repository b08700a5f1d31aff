"""Sweep with `-m`: plain grids, and studies with Optuna. Heavy imports wait in `_multirun`."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.hydra_ppolab._context import Multirun
from ppolab.config.sweep_schema import SearchSettings, SweepSettings


@dataclass
class SweeperConfig(SearchSettings, SweepSettings):
    """List what `hydra.sweeper.*` may set; the command line also takes these names alone, such as `n_trials=40`."""

    _target_: str = "hydra_plugins.hydra_ppolab.sweeper.PpolabSweeper"


class PpolabSweeper(Sweeper):
    """Run every combination of a grid, or the trials of a study."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.multirun = Multirun(self.settings, hydra_context, config, launcher)

    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.hydra_ppolab._multirun import sweep

        return sweep(self.multirun, arguments)


ConfigStore.instance().store(group="hydra/sweeper", name="ppolab", node=SweeperConfig, provider="ppolab")
