"""Jobs as processes: composed here, run there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ppolab.config import register_schemas, usable_cores
from ppolab.processes import CORES, Ended, ProcessPool

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher

PRELOAD = ("hydra_plugins.hydra_ppolab._preload",)


def make_pool(workers: int) -> ProcessPool:
    """A pool whose processes share the machine's cores; `workers` 0: one per core."""
    return ProcessPool(workers or usable_cores(), PRELOAD)


def cores_each(pool: ProcessPool) -> dict[str, str]:
    """The environment of a job: its share of the cores."""
    return {CORES: str(max(1, usable_cores() // pool.capacity))}


def composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """A job's whole configuration; its folder is `hydra.sweep.dir` / `hydra.sweep.subdir`."""
    job: DictConfig = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = job.hydra.job.num = number
        job.hydra.sweep.dir = str(job.hydra.sweep.dir)  # the time in it must not be told again in the job's process
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
    """All jobs, as many at a time as there are workers; in their order."""
    pool = make_pool(int(launcher.config.hydra.sweeper.get("workers", 0)))
    waiting = [composed(launcher.hydra_context, launcher.config, job, first + n) for n, job in enumerate(job_overrides)]
    returns: dict[int, JobReturn] = {}
    pending = list(enumerate(waiting))[::-1]
    running = 0
    while pending or running:
        while pending and running < pool.capacity:
            number, job = pending.pop()
            pool.start(number, run_composed, (job,), folder_of(job) / "output.txt", cores_each(pool))
            running += 1
        for ended in pool.wait(60.0):
            returns[ended.key] = _returned(ended, waiting[ended.key], job_overrides[ended.key])
            running -= 1
    return [returns[number] for number in sorted(returns)]


def _returned(ended: Ended, job: DictConfig, overrides: Sequence[str]) -> JobReturn:
    result = JobReturn(overrides=overrides, cfg=job, working_dir=os.getcwd())
    result.status = JobStatus.COMPLETED if ended.error is None else JobStatus.FAILED
    result.return_value = ended.result if ended.error is None else RuntimeError(ended.error)
    return result
