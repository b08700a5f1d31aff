"""Run a grid: every combination of listed values, each once, however often the command is typed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from hydra_plugins.hydra_ppolab._compose import for_single_runs, without_hydra
from hydra_plugins.hydra_ppolab._launcher_runner import prepare, with_variable
from hydra_plugins.hydra_ppolab._process_jobs import SweepJob, composed, make_pool, names_own_code, run_jobs
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config.algorithms import refuse_unread
from ppolab.config.loading import from_hydra
from ppolab.config.quoting import quoted
from ppolab.config.schema import Config, flattened
from ppolab.errors import InterruptedRun, SweepError
from ppolab.records.run_folder import OUTPUTS, RunFolder, locked
from ppolab.records.tracking import resolve_tracking_uri
from ppolab.records.wording import same_command
from ppolab.study.grid import GridJob, State, grid_name, measured, run_names, state_of, there_already
from ppolab.study.grid_record import Grid, GridRecord, GridResult
from ppolab.study.store import Store
from ppolab.study.sweep_lines import SweepLines, updating
from ppolab.training.trial import GRID_RUN

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._context import Multirun

GRIDS = OUTPUTS / "grids"
"""`hydra.sweep.dir` as shipped: each grid has a folder of its own below. Another value is the folder itself."""


@dataclass(frozen=True)
class _Runs:
    """Hold what a launcher is given: the jobs that are not done, how each begins, and what they are told."""

    grid: Grid
    jobs: Sequence[GridJob]
    states: Mapping[int, State]
    record: GridRecord

    @property
    def done_before(self) -> int:
        return len(self.grid.jobs) - len(self.jobs)

    def overrides(self, job: GridJob, folder: Path) -> list[str]:
        """Return the settings of a job; one that was interrupted goes on in its folder."""
        goes_on = [f"resume={quoted(str(folder))}"] if self.states[job.number] == "interrupted" else []
        return [*job.settings, *goes_on]


def run_grid(multirun: Multirun, fixed: dict[str, str], searched: dict[str, tuple[str, ...]]) -> list[Any]:
    """Run every combination that is not done yet, in the order of a written-out loop; return the values of all.

    Raises:
        ConfigError: a run cannot have its settings, or its folder holds another one.
        SweepError: jobs failed; the others have run to their end.
        InterruptedRun: Ctrl-C or SIGTERM; the same command goes on.
    """
    grid = _described(multirun, fixed, searched)
    lines = SweepLines(len(grid.jobs), shown=grid.jobs[0].config.progress != "off")
    grid.folder.mkdir(parents=True, exist_ok=True)
    with locked(grid.folder, "another process works on this grid"):
        states = {job.number: state_of(job) for job in grid.jobs}
        jobs = [job for job in grid.jobs if states[job.number] != "done"]
        in_processes = isinstance(multirun.launcher, ProcessLauncher)
        pool = None
        if jobs and in_processes:  # it imports while the store is opened
            own_code = any(names_own_code(flattened(job.config)) for job in jobs)
            pool = make_pool(multirun.config, own_code=own_code)
        lines.ended(there_already(list(states.values()), grid.folder))
        record = GridRecord(grid, _store(grid.jobs[0].config))
        record.open()
        record.send_again([job for job in grid.jobs if states[job.number] == "done"])
        runs = _Runs(grid, jobs, states, record)
        returns: Sequence[JobReturn] = []
        try:
            if pool is not None:
                returns = _in_processes(multirun, runs, pool, lines)
            elif jobs:
                returns = _through_launcher(multirun, runs, lines)
        except (InterruptedRun, KeyboardInterrupt) as error:
            result = _result(grid, {})
            record.close(result, "KILLED")
            raise InterruptedRun(
                f"stopped; {len(result.values)} of {len(grid.jobs)} jobs are done, and what the others saved is kept; "
                f"go on with: {same_command('train')}"
            ) from error
        except BaseException:
            record.close(_result(grid, {}), "FAILED")
            raise
        result = _result(grid, dict(zip((job.number for job in jobs), returns, strict=True)))
        record.close(result, "FAILED" if result.failed else "FINISHED")
    print("\n".join(filter(None, (result.summary, record.page_lines))), flush=True)
    if result.failed:
        first = grid.jobs[result.failed[0]]
        raise SweepError(
            f"{len(result.failed)} of {len(grid.jobs)} jobs failed, the first of them {' '.join(first.settings)}; "
            f"what it said is in {first.folder.path}; the same command tries again what failed"
        )
    return [_as_returned(result.values[job.number]) for job in grid.jobs]


def _described(multirun: Multirun, fixed: dict[str, str], searched: dict[str, tuple[str, ...]]) -> Grid:
    """Return the grid with all its runs checked, so that a mistake in one shows before the first has run."""
    fixed = for_single_runs(multirun, fixed)
    varied: list[dict[str, str]] = []
    nodes: list[DictConfig] = []
    configs: list[Config] = []
    for number, values in enumerate(itertools.product(*searched.values())):
        own = dict(zip(searched, values, strict=True))
        nodes.append(composed(multirun.context, multirun.config, _settings(fixed, own), number))
        configs.append(from_hydra(without_hydra(nodes[-1])))
        refuse_unread(configs[-1].algorithm, {**fixed, **own})
        varied.append(own)
    folder = Path(str(multirun.config.hydra.sweep.dir))
    if folder == GRIDS:
        folder = GRIDS / grid_name(configs, list(searched))
    names = run_names(configs, varied)
    jobs = [
        GridJob(number, tuple(_settings(fixed, own)), own, config, name, RunFolder(folder / node.hydra.sweep.subdir))
        for number, (own, config, name, node) in enumerate(zip(varied, configs, names, nodes, strict=True))
    ]
    direction = multirun.settings["direction"]
    first = direction.split(",")[0] if isinstance(direction, str) else direction[0]
    return Grid(folder, jobs, [f"{key}={value}" for key, value in fixed.items()], searched, first)


def _settings(fixed: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in {**fixed, **own}.items()]


def _store(config: Config) -> Store | None:
    logger = config.logger
    return (
        None if logger.kind == "none" else Store(resolve_tracking_uri(logger.tracking_uri, OUTPUTS), logger.experiment)
    )


def _in_processes(multirun: Multirun, runs: _Runs, pool: Any, lines: SweepLines) -> Sequence[JobReturn]:
    jobs = [
        SweepJob(
            job.number,
            runs.overrides(job, job.folder.path),
            job.shown or job.name,
            job.folder.path,
            {GRID_RUN: runs.record.reference(job)},
            "goes on" if runs.states[job.number] == "interrupted" else "started",
        )
        for job in runs.jobs
    ]
    return run_jobs(multirun.context, multirun.config, jobs, pool, lines, runs.done_before)


def _through_launcher(multirun: Multirun, runs: _Runs, lines: SweepLines) -> Sequence[JobReturn]:
    """Hand all jobs to the launcher at once, which returns when all have ended, and watch their files meanwhile."""
    prepare(multirun.launcher)
    logging.getLogger("hydra_plugins").setLevel(logging.WARNING)  # the lines say what runs
    jobs: list[list[str]] = []
    for job in runs.jobs:
        folder = job.folder.path.absolute()  # a launcher's processes may stand elsewhere
        place = [f"hydra.sweep.dir={quoted(str(folder.parent))}", f"hydra.sweep.subdir={quoted(folder.name)}"]
        jobs.append([*runs.overrides(job, folder), *place, with_variable(GRID_RUN, runs.record.reference(job))])

    def state() -> tuple[list[tuple[str, RunFolder]], int]:
        finished = {job.number for job in runs.jobs if job.folder.is_finished}
        begun = [job for job in runs.jobs if job.number not in finished and job.folder.config.is_file()]
        return [(job.shown or job.name, job.folder) for job in begun], runs.done_before + len(finished)

    with updating(lines, state):
        returned: Sequence[JobReturn] = multirun.launcher.launch(jobs, initial_job_idx=0)
    return returned


def _result(grid: Grid, returns: Mapping[int, JobReturn]) -> GridResult:
    """Return what became of the grid: of runs that have just ended as they say, of the others as their files do."""
    values = {job.number: measured(job) for job in grid.jobs if job.number not in returns and job.folder.is_finished}
    failed = [number for number, ended in returns.items() if ended.status != JobStatus.COMPLETED]
    for number, ended in returns.items():
        if ended.status == JobStatus.COMPLETED:
            value = ended.return_value
            values[number] = tuple(value) if isinstance(value, list) else (value,)
    return GridResult(grid, values, failed)


def _as_returned(values: tuple[float, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)
