"""Compose the jobs of a sweep here, and run each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from hydra_plugins.hydra_ppolab._compose import without_hydra
from ppolab.config.metrics import objective_names, unmeasured
from ppolab.config.schema import Config, register_schemas
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.records.run_folder import OUTPUTS, RunFolder
from ppolab.records.tracking import is_database, resolve_tracking_uri
from ppolab.records.tracking.tags import COMMAND, typed_command
from ppolab.records.wording import problem_in
from ppolab.runtime.cores import CORES, usable_cores
from ppolab.runtime.fork_server import EndedProcess, ProcessPool
from ppolab.runtime.signals import stop_requests
from ppolab.runtime.user_code import NAME
from ppolab.study.sweep_lines import SweepLines

PRELOAD = "hydra_plugins.hydra_ppolab._preload"


def make_pool(config: DictConfig, *, relayed: bool = False, own_code: bool = False) -> ProcessPool:
    """Return a pool for the jobs of the sweep `config`, with as many workers as it says, or one per core.

    Args:
        relayed: the jobs hand their records to the sweep, and need nothing of MLflow.
        own_code: what they vary names modules of the user's.
    """
    workers = int(config.hydra.sweeper.get("workers", 0))
    if workers < 0:
        raise ConfigError(f"workers={workers}: must be 1 or more, or 0 for one per processor core")
    return ProcessPool(workers or usable_cores(), preloaded(config, relayed=relayed, own_code=own_code))


def preloaded(config: DictConfig, *, relayed: bool = False, own_code: bool = False) -> list[str]:
    """Return the modules that the fork server imports: all that the runs would import one by one."""
    modules = [PRELOAD]
    compiling = may_compile(config)
    if compiling or config.logger.register or own_code or names_own_code(config):
        modules.append(f"{PRELOAD}_whole")
    if compiling:
        modules.append(f"{PRELOAD}_compiler")
    if config.logger.kind == "none" or relayed:
        return modules
    uri = resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)
    return [*modules, f"{PRELOAD}_database" if is_database(uri) else f"{PRELOAD}_tracking"]


def may_compile(config: DictConfig) -> bool:
    """Return whether runs may import PyTorch's compiler, as far as their common settings tell.

    A run that needs it all the same imports it by itself, once its environment is known.
    """
    model = config.model
    in_native = (
        str(config.compile).lower() == "auto"
        and config.optimizer.get("_target_") in ("torch.optim.Adam", "torch.optim.AdamW")
        and config.algorithm.name not in ("a2c", "vpg")
        and model.encoder is None
        and model.network is None
        and not (model.dropout or model.state_dependent_std)
    )
    return not in_native or config.trainer.accelerator == "gpu" or config.trainer.precision == "bf16"


def names_own_code(node: object) -> bool:
    """Return whether a value in a configuration, Hydra's part apart, is MODULE:NAME."""
    if isinstance(node, DictConfig):
        return any(not OmegaConf.is_missing(node, key) and key != "hydra" and names_own_code(node[key]) for key in node)
    if isinstance(node, dict):
        return any(map(names_own_code, node.values()))
    if isinstance(node, ListConfig | list):
        return any(map(names_own_code, node))
    return isinstance(node, str) and NAME.fullmatch(node) is not None


def job_environment(pool: ProcessPool) -> dict[str, str]:
    """Return the environment variables of a job: its share of the cores, and the command that the user typed."""
    return {CORES: str(max(1, usable_cores() // pool.capacity)), COMMAND: typed_command()}


def composed(
    context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int, folder: Path | None = None
) -> DictConfig:
    """Return a job's whole configuration; its folder is `folder`, or `hydra.sweep.dir` / `hydra.sweep.subdir`."""
    return with_place(context.config_loader.load_sweep_config(config, list(overrides)), config, number, folder)


def with_place(job: DictConfig, config: DictConfig, number: int, folder: Path | None) -> DictConfig:
    """Return `job` with its number and the folder of its files; `config` is the sweep's."""
    with open_dict(job):
        job.hydra.job.id = job.hydra.job.num = number
        # resolved here: the time in its name is that of the sweep, not of the job
        job.hydra.sweep.dir = str(config.hydra.sweep.dir if folder is None else folder.parent)
        job.hydra.sweep.subdir = str(job.hydra.sweep.subdir if folder is None else folder.name)
    return job


def run_composed(job: DictConfig, records: Connection | None = None) -> Any:
    """Run a job in its own process; return the task's value, raise what it raises. `records`: see `train_job`."""
    from ppolab.cli.jobs import train_job

    return _run(partial(train_job, records=records), job)


def run_together(
    jobs: Sequence[DictConfig], references: Sequence[str], records: Sequence[Connection | None]
) -> list[Any]:
    """Run jobs that differ in their seeds at once, in one process; return what `run_composed` does for each."""
    from ppolab.cli.jobs import SeedJob, train_together

    seeds = [
        SeedJob(folder_of(job), without_hydra(job), reference, connection)
        for job, reference, connection in zip(jobs, references, records, strict=True)
    ]
    results: list[Any] = _run(lambda _node: train_together(seeds), jobs[0])
    return results


def _run(task: Callable[[DictConfig], Any], job: DictConfig) -> Any:
    from ppolab.cli.hydra_guard import guard_hydra

    guard_hydra()
    setup_globals()
    register_schemas()
    context = HydraContext(config_loader=None, callbacks=Callbacks(job))  # type: ignore[arg-type]
    return run_job(task, job, "hydra.sweep.dir", "hydra.sweep.subdir", context).return_value


def folder_of(job: DictConfig) -> Path:
    """Return the folder of a job's files."""
    return Path(str(job.hydra.sweep.dir)) / str(job.hydra.sweep.subdir)


@dataclass(frozen=True)
class SweepJob:
    """Describe one job of a sweep.

    Attributes:
        overrides: its settings, as Hydra's grammar has them. shown: what tells it from the others.
        folder: its files; None: `hydra.sweep.dir` / `hydra.sweep.subdir`. environment: variables of its process.
        begins: how its beginning is told.
    """

    number: int
    overrides: Sequence[str]
    shown: str
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    begins: str = "started"


def launch(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Run all jobs as `run_jobs` does; return their results in their order.

    Args:
        job_overrides: the settings of each job. first: the number of the first job.
    """
    shown = varied(job_overrides)
    numbered = enumerate(zip(job_overrides, shown, strict=True), first)
    jobs = [SweepJob(number, overrides, " ".join(own)) for number, (overrides, own) in numbered]
    return run_jobs(context, config, jobs, make_pool(config), SweepLines(len(jobs), shown=config.progress != "off"), 0)


def run_jobs(
    context: HydraContext,
    config: DictConfig,
    jobs: Sequence[SweepJob],
    pool: ProcessPool,
    lines: SweepLines,
    done: int,
) -> Sequence[JobReturn]:
    """Run all jobs, as many at a time as there are workers; return their results in their order.

    Args:
        context, config: those of the sweep. done: jobs that were done before.

    Raises:
        InterruptedRun: Ctrl-C or SIGTERM came; the runs under way have saved what they had.
    """
    waiting, under_way, asked = list(jobs), dict[int, tuple[SweepJob, DictConfig]](), False
    returns: dict[int, JobReturn] = {}
    lines.update([], done)  # the first job may take a while to begin
    try:
        with stop_requests() as stopping:
            while (waiting and not stopping()) or not pool.is_idle:
                while waiting and pool.has_room and not stopping():
                    job = waiting.pop(0)
                    node = composed(context, config, job.overrides, job.number, job.folder)
                    under_way[job.number] = job, node
                    _start(pool, job, node)
                    lines.started(f"job {job.number:<4} {job.begins:<12} {job.shown}")
                if stopping() and not asked:
                    asked = True
                    pool.interrupt()  # once: a second signal ends a run without its checkpoint
                for ended in pool.wait(1.0):
                    job, node = under_way.pop(ended.key)
                    returns[ended.key] = _returned(ended, node, job.overrides)
                    done += not stopping() or ended.error is None
                    told = _told(ended, node, stopped=stopping())
                    lines.ended(f"job {job.number:<4} {told} {job.shown}  {folder_of(node)}")
                runs = [(job.shown, RunFolder(folder_of(node))) for job, node in under_way.values()]
                lines.update(runs, done)
    finally:
        lines.close()
    if stopping():
        raise InterruptedRun(
            f"stopped; {len(returns)} of {len(jobs)} jobs had begun, what they saved is in their folders"
        )
    return [returns[job.number] for job in jobs]


def _start(pool: ProcessPool, job: SweepJob, config: DictConfig) -> None:
    environment = {**job_environment(pool), **job.environment}
    pool.start(job.number, run_composed, (config,), folder_of(config) / "output.txt", environment)


def varied(job_overrides: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return for each job those of its overrides that not all jobs share; they tell it from the others."""
    shared = set(job_overrides[0]).intersection(*job_overrides) if job_overrides else set()
    return [[text for text in job if text not in shared and not text.startswith("+hydra.")] for job in job_overrides]


def _returned(ended: EndedProcess, job: DictConfig, overrides: Sequence[str]) -> JobReturn:
    result = JobReturn(overrides=overrides, cfg=job, working_dir=str(folder_of(job)))
    result.status = JobStatus.COMPLETED if ended.error is None else JobStatus.FAILED
    result.return_value = ended.result if ended.error is None else RuntimeError(ended.error)
    return result


def _told(ended: EndedProcess, job: DictConfig, *, stopped: bool) -> str:
    """Return in words how a job has ended. `stopped`: the sweep has asked all jobs to save and end."""
    if ended.error is None:
        values = ended.result if isinstance(ended.result, list) else [ended.result]
        names = objective_names(cast(Config, job))
        reached = "  ".join(f"{name} {value:,.4g}" for name, value in zip(names, values, strict=True))
        return f"{'complete':<12} {unmeasured(names, values, job.total_steps) or reached} "
    problem = problem_in(ended.error)
    if not stopped:
        return f"{'failed':<12} {problem} "
    saved = "before its first step"
    if "ppolab.errors.InterruptedRun: " in ended.error:
        saved = problem.partition("; go on with")[0]
    return f"{'interrupted':<12} {saved} "
