"""Jobs as processes: composed here, run there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ppolab.config import CORES, register_schemas, usable_cores
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.processes import Ended, ProcessPool, stop_requests
from ppolab.runs import OUTPUTS
from ppolab.tracking import is_database, resolve_tracking_uri

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher

PRELOAD = "hydra_plugins.hydra_ppolab._preload"


def make_pool(config: DictConfig) -> ProcessPool:
    """For the jobs of a sweep with the configuration `config`; as many workers as it says, or one per core."""
    workers = int(config.hydra.sweeper.get("workers", 0))
    if workers < 0:
        raise ConfigError(f"workers={workers}: must be 1 or more, or 0 for one per processor core")
    return ProcessPool(workers or usable_cores(), preloaded(config))


def preloaded(config: DictConfig) -> list[str]:
    """The modules that the fork server imports: all that the runs would import one by one."""
    if config.logger.kind == "none":
        return [PRELOAD]
    uri = resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)
    return [PRELOAD, f"{PRELOAD}_database" if is_database(uri) else f"{PRELOAD}_tracking"]


def cores_each(pool: ProcessPool) -> dict[str, str]:
    """The environment of a job: its share of the cores."""
    return {CORES: str(max(1, usable_cores() // pool.capacity))}


def composed(
    context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int, folder: Path | None = None
) -> DictConfig:
    """A job's whole configuration; its folder is `folder`, or `hydra.sweep.dir` / `hydra.sweep.subdir`."""
    job: DictConfig = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = job.hydra.job.num = number
        # resolved here: the time in its name is that of the sweep, not of the job
        job.hydra.sweep.dir = str(config.hydra.sweep.dir if folder is None else folder.parent)
        job.hydra.sweep.subdir = str(job.hydra.sweep.subdir if folder is None else folder.name)
    return job


def run_composed(job: DictConfig) -> Any:
    """What a job's process does; returns the task's value, raises what it raises."""
    from ppolab.cli import train_job

    setup_globals()
    register_schemas()
    context = HydraContext(config_loader=None, callbacks=Callbacks(job))  # type: ignore[arg-type]
    result = run_job(train_job, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    return result.return_value


def folder_of(job: DictConfig) -> Path:
    """Where a job's files go."""
    return Path(str(job.hydra.sweep.dir)) / str(job.hydra.sweep.subdir)


def launch(launcher: ProcessLauncher, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
    """All jobs, as many at a time as there are workers; in their order.

    Raises:
        InterruptedRun: Ctrl-C or SIGTERM came; the runs under way have saved what they had.
    """
    pool = make_pool(launcher.config)
    jobs = [composed(launcher.hydra_context, launcher.config, job, first + n) for n, job in enumerate(job_overrides)]
    returns: dict[int, JobReturn] = {}
    waiting = list(range(len(jobs)))
    with stop_requests() as stopping:
        while (waiting and not stopping()) or not pool.is_idle:
            while waiting and pool.has_room and not stopping():
                number = waiting.pop(0)
                output = folder_of(jobs[number]) / "output.txt"
                pool.start(number, run_composed, (jobs[number],), output, cores_each(pool))
            if stopping():
                pool.interrupt()
            for ended in pool.wait(1.0):
                returns[ended.key] = _returned(ended, jobs[ended.key], job_overrides[ended.key])
                print(_told(first + ended.key, ended, job_overrides[ended.key], folder_of(jobs[ended.key])), flush=True)
        if stopping():
            raise InterruptedRun(
                f"stopped; {len(returns)} of {len(jobs)} jobs had begun, what they saved is in their folders"
            )
    return [returns[number] for number in sorted(returns)]


def _returned(ended: Ended, job: DictConfig, overrides: Sequence[str]) -> JobReturn:
    result = JobReturn(overrides=overrides, cfg=job, working_dir=str(folder_of(job)))
    result.status = JobStatus.COMPLETED if ended.error is None else JobStatus.FAILED
    result.return_value = ended.result if ended.error is None else RuntimeError(ended.error)
    return result


def _told(number: int, ended: Ended, overrides: Sequence[str], folder: Path) -> str:
    """One line about a job that has ended."""
    end, outcome = (
        ("complete", ended.result) if ended.error is None else ("failed", ended.error.strip().splitlines()[-1])
    )
    return f"job {number:<4} {end:<9} {outcome}  {' '.join(overrides)}  {folder}"
