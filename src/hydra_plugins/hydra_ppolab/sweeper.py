"""The sweeper behind `-m`: plain grids, and studies with Optuna. What is heavy waits in `_sweep`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConfig:
    """What `hydra.sweeper.*` may set; the command line also takes these names alone, such as `n_trials=40`."""

    _target_: str = "hydra_plugins.hydra_ppolab.sweeper.PpolabSweeper"
    params: dict[str, Any] = field(default_factory=dict)  # key: what would stand after `key=` on the command line
    condition: str | None = None  # module.function of (trial, values so far) -> further values
    sampler: dict[str, Any] = field(default_factory=dict)  # name, and arguments of Optuna's class
    pruner: dict[str, Any] = field(default_factory=dict)
    n_trials: int | None = None
    timeout: float | None = None  # seconds after which no trial is started
    workers: int = 0  # 0: one per processor core
    seeds_per_trial: int = 1
    direction: Any = "maximize"  # or a list, one per objective
    enqueue: list[dict[str, Any]] = field(default_factory=list)  # settings that are tried first
    study_name: str | None = None
    storage: str | None = None  # null: a file in outputs/studies
    max_failures: int = 10


@dataclass(frozen=True)
class Multirun:
    """What Hydra hands to a sweeper, and `hydra.sweeper.*` as settings by name."""

    settings: dict[str, Any]
    context: HydraContext
    config: DictConfig
    launcher: Launcher


class PpolabSweeper(Sweeper):
    """Runs every combination of a grid, or the trials of a study."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.multirun = Multirun(self.settings, hydra_context, config, launcher)

    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.hydra_ppolab._sweep import sweep

        return sweep(self.multirun, arguments)


ConfigStore.instance().store(group="hydra/sweeper", name="ppolab", node=SweeperConfig, provider="ppolab")
