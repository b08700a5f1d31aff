"""How a study's runs are started: in processes of our own, or through any other launcher of Hydra's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra_plugins.hydra_ppolab._launch import composed, cores_each, make_pool, run_composed
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config import TRIAL
from ppolab.study.child import TrialReference
from ppolab.study.engine import Job, Outcome, Runner
from ppolab.study.settings import StudySettings
from ppolab.study.trials import trial_name

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab.sweeper import Multirun


class JobFiles:
    """Where the runs of a study lie: a folder per trial, and per seed in it; never one that is there already."""

    def __init__(self, study: Path) -> None:
        self._study = study

    def new(self, job: Job, seeds: int) -> Path:
        """The folder, which is made here, so that nobody else takes it."""
        name = trial_name(job.claim.number, job.seed_index if seeds > 1 else None)
        for attempt in itertools.count(1):
            folder = self._study / (name if attempt == 1 else f"{name}-again-{attempt}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise AssertionError("itertools.count ends")


class _HydraJobs:
    """What both kinds of runner need to turn a job into a configuration."""

    def __init__(self, multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> None:
        self._multirun = multirun
        self._settings = settings
        self._storage = storage
        self._studies = studies
        self._files = JobFiles(studies / settings.name)

    def overrides(self, job: Job) -> tuple[list[str], Path, str]:
        """(overrides, folder, the reference for the environment)."""
        folder = self._files.new(job, self._settings.seeds_per_trial)
        # no trial is filmed, unless asked for: drawing takes longer than a short run
        return ["logger.video=false", *job.overrides], folder, self._reference(job).as_text()

    def _reference(self, job: Job) -> TrialReference:
        settings = self._settings
        several = settings.seeds_per_trial > 1
        return TrialReference(
            storage=self._storage,
            folder=str(self._studies.absolute()),
            study=settings.name,
            number=job.claim.number,
            trial_id=job.claim.trial_id,
            pruning=None if several or len(settings.directions) > 1 else settings.pruning,
            parent_run_id=job.parent_run_id,
            run_name=trial_name(job.claim.number, job.seed_index if several else None),
        )


class ProcessRunner(_HydraJobs):
    """Each run in a fresh process of this machine."""

    def __init__(self, multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> None:
        super().__init__(multirun, settings, storage, studies)
        self._pool = make_pool(multirun.config)
        self._jobs: dict[int, tuple[Job, Path]] = {}
        self._keys = itertools.count()
        self.capacity = self._pool.capacity

    def start(self, job: Job) -> None:
        overrides, folder, reference = self.overrides(job)
        config = composed(self._multirun.context, self._multirun.config, overrides, job.claim.number, folder)
        key = next(self._keys)
        self._jobs[key] = (job, folder)
        environment = {**cores_each(self._pool), TRIAL: reference}
        self._pool.start(key, run_composed, (config,), folder / "output.txt", environment)

    def wait(self, seconds: float) -> Sequence[Outcome]:
        outcomes = []
        for ended in self._pool.wait(seconds):
            job, folder = self._jobs.pop(ended.key)
            outcomes.append(outcome_of(job, folder, ended.result, ended.error))
        return outcomes

    def stop(self) -> Sequence[Outcome]:
        self._pool.interrupt()
        outcomes: list[Outcome] = []
        while not self._pool.is_idle:
            outcomes += self.wait(60.0)
        # what failed because of the signal cannot be told from what would have failed: both run again
        return [replace(outcome, end="interrupted") if outcome.end == "failed" else outcome for outcome in outcomes]


class BatchRunner(_HydraJobs):
    """Through a launcher that returns only when all its jobs have ended; as many at a time as there are workers."""

    def __init__(self, multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> None:
        super().__init__(multirun, settings, storage, studies)
        self.capacity = settings.workers
        self._waiting: list[tuple[Job, list[str], Path]] = []

    def start(self, job: Job) -> None:
        overrides, folder, reference = self.overrides(job)
        variable = "'" + reference.replace("\\", "\\\\").replace("'", "\\'") + "'"
        place = [f"hydra.sweep.dir='{folder.parent}'", f"hydra.sweep.subdir='{folder.name}'"]
        self._waiting.append((job, [*overrides, *place, f"+hydra.job.env_set.{TRIAL}={variable}"], folder))

    def wait(self, seconds: float) -> Sequence[Outcome]:  # noqa: ARG002 - the launcher knows no time limit
        batch, self._waiting = self._waiting, []
        returns = self._multirun.launcher.launch([overrides for _, overrides, _ in batch], initial_job_idx=0)
        return [
            outcome_of(job, folder, *_value_or_error(result))
            for (job, _, folder), result in zip(batch, returns, strict=True)
        ]

    def stop(self) -> Sequence[Outcome]:
        interrupted = [Outcome(job, "interrupted", folder=str(folder)) for job, _, folder in self._waiting]
        self._waiting = []
        return interrupted


def _value_or_error(result: Any) -> tuple[Any, str | None]:
    try:
        return result.return_value, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def outcome_of(job: Job, folder: Path, result: Any, error: str | None) -> Outcome:
    """From what `ppolab.cli.train_job` returns inside a study."""
    if error is not None:
        return Outcome(job, "failed", error=error, folder=str(folder))
    return Outcome(job, result["end"], tuple(result["values"]), result["error"], str(folder))


def make_runner(multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> Runner:
    """By the launcher that was chosen."""
    kind = ProcessRunner if isinstance(multirun.launcher, ProcessLauncher) else BatchRunner
    return kind(multirun, settings, storage, studies)
