"""Launch the jobs of `-m`: each in a fresh process, as many at a time as there are workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConfig:
    """Configure `hydra/launcher=ppolab`, which is the default."""

    _target_: str = "hydra_plugins.hydra_ppolab.launcher.ProcessLauncher"


class ProcessLauncher(Launcher):
    """Start jobs from a fork server that has imported what they need; no state passes from one to the next."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra_plugins.hydra_ppolab._process_jobs import launch

        return launch(self.hydra_context, self.config, job_overrides, initial_job_idx)


ConfigStore.instance().store(group="hydra/launcher", name="ppolab", node=LauncherConfig, provider="ppolab")
