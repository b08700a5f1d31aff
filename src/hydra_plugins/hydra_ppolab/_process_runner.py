"""Start a study's runs in processes of our own, or choose the runner for another launcher of Hydra's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_plugins.hydra_ppolab._process_jobs import job_environment, make_pool, run_composed
from hydra_plugins.hydra_ppolab._study_jobs import StudyJobs, outcome_of
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
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
        self._jobs: dict[int, tuple[Job, Path]] = {}
        self._not_started: list[Outcome] = []
        self._keys = itertools.count()
        self.capacity = self._pool.capacity

    def start(self, job: Job) -> None:
        overrides, folder, reference = self._prepared.prepared(job)
        try:
            config = self._multirun.composer.composed(overrides, job.claim.number, folder)
        except Exception as error:  # Hydra's families; a condition of the user's own may name what is not there
            self._not_started.append(outcome_of(job, folder, None, f"{type(error).__name__}: {error}", 0.0))
            return
        key = next(self._keys)
        self._jobs[key] = (job, folder)
        environment = {**job_environment(self._pool), TRIAL: reference}
        records = None if self._relay is None else self._relay.connection(job.parent)
        self._pool.start(key, run_composed, (config, records), folder / "output.txt", environment)
        if records is not None:
            records.close()  # the run's process has it now

    def wait(self, seconds: float) -> Sequence[Outcome]:
        outcomes, self._not_started = self._not_started, []
        for ended in self._pool.wait(0.0 if outcomes else seconds):
            job, folder = self._jobs.pop(ended.key)
            died = ended.error is not None  # `train_job` answers whatever a run raises
            outcomes.append(outcome_of(job, folder, ended.result, ended.error, ended.seconds, died=died))
        return outcomes

    def under_way(self) -> Sequence[tuple[Job, Path]]:
        return list(self._jobs.values())

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
