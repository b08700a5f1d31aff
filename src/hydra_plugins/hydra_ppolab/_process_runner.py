"""Start a study's runs in processes of our own, or choose the runner for another launcher of Hydra's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydra_plugins.hydra_ppolab._compose import without_hydra
from hydra_plugins.hydra_ppolab._process_jobs import job_environment, make_pool, run_composed, run_together
from hydra_plugins.hydra_ppolab._study_jobs import StudyJobs, outcome_of
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config.loading import from_hydra
from ppolab.config.members import trains_together
from ppolab.records.tracking import Tracker, TrackingRelay, unsent_runs
from ppolab.study.settings import StudySettings
from ppolab.study.sweep_loop import Job, Outcome, Runner
from ppolab.training.trial import TRIAL

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._context import Multirun


class ProcessRunner:
    """Run each job in a fresh process of this machine."""

    ends_lost_runs = True

    def __init__(self, multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> None:
        self._multirun = multirun
        self._prepared = StudyJobs(settings, storage, studies)
        self._pool = make_pool(multirun.config, relayed=True)
        self._relay = None if multirun.config.logger.kind == "none" else TrackingRelay()
        self._jobs: dict[int, list[tuple[Job, Path]]] = {}
        self._not_started: list[Outcome] = []
        self._keys = itertools.count()
        self.capacity = self._pool.capacity

    def start(self, job: Job) -> None:
        prepared = self._composed(job)
        if prepared is not None:
            config, folder, reference = prepared
            records = self._records(job)
            self._run([(job, folder)], run_composed, (config, records), reference)
            if records is not None:
                records.close()  # the run's process has it now

    def start_together(self, jobs: Sequence[Job]) -> bool:
        base = self._multirun.composer.composed(list(jobs[0].overrides), jobs[0].claim.number)
        if not trains_together(from_hydra(without_hydra(base))):
            return False
        prepared = [each for job in jobs if (each := self._composed(job)) is not None]
        if len(prepared) < len(jobs):
            return True  # they count as failed
        configs, folders, references = zip(*prepared, strict=True)
        records = [self._records(job) for job in jobs]
        self._run(list(zip(jobs, folders, strict=True)), run_together, (configs, references, records), references[0])
        for connection in records:
            if connection is not None:
                connection.close()
        return True

    def _composed(self, job: Job) -> tuple[DictConfig, Path, str] | None:
        """Return the configuration, the new folder and the reference of a job; None where it cannot be composed."""
        overrides, folder, reference = self._prepared.prepared(job)
        try:
            return self._multirun.composer.composed(overrides, job.claim.number, folder), folder, reference
        except Exception as error:  # Hydra's families; a condition of the user's own may name what is not there
            self._not_started.append(outcome_of(job, folder, None, f"{type(error).__name__}: {error}", 0.0))
            return None

    def _records(self, job: Job) -> Connection | None:
        return None if self._relay is None else self._relay.connection(job.parent)

    def _run(
        self,
        jobs: list[tuple[Job, Path]],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        reference: str,
    ) -> None:
        """Start the process of jobs; what it prints goes to the folder of the first."""
        key = next(self._keys)
        self._jobs[key] = jobs
        environment = {**job_environment(self._pool), TRIAL: reference}
        self._pool.start(key, function, arguments, jobs[0][1] / "output.txt", environment)

    def wait(self, seconds: float) -> Sequence[Outcome]:
        outcomes, self._not_started = self._not_started, []
        for ended in self._pool.wait(0.0 if outcomes else seconds):
            jobs = self._jobs.pop(ended.key)
            died = ended.error is not None  # `train_job` answers whatever a run raises
            results = ended.result if isinstance(ended.result, list) else [ended.result] * len(jobs)
            outcomes += [
                outcome_of(job, folder, result, ended.error, ended.seconds / len(jobs), died=died)
                for (job, folder), result in zip(jobs, results, strict=True)
            ]
        return outcomes

    def under_way(self) -> Sequence[tuple[Job, Path]]:
        return list(itertools.chain.from_iterable(self._jobs.values()))

    def stop(self) -> Sequence[Outcome]:
        self._pool.interrupt()
        outcomes: list[Outcome] = []
        while self._not_started or not self._pool.is_idle:
            outcomes += self.wait(60.0)
        return outcomes

    def send_again(self, study: Path, uri: str, parent: Tracker) -> None:
        if self._relay is not None:
            self._relay.send_again(unsent_runs(study), uri, parent)

    def close(self) -> None:
        if self._relay is not None:
            self._relay.close()

    def give_up(self) -> None:
        if self._relay is not None:
            self._relay.give_up()


def make_runner(multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> Runner:
    """Return the runner for the launcher that was chosen."""
    if isinstance(multirun.launcher, ProcessLauncher):
        return ProcessRunner(multirun, settings, storage, studies)
    from hydra_plugins.hydra_ppolab._launcher_runner import LauncherRunner

    return LauncherRunner(multirun, settings, storage, studies)
