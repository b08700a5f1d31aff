"""What a study's run needs, whatever starts it: its settings, its folder, and what it is told of its trial."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from ppolab.study.child import TrialReference
from ppolab.study.engine import Job, Outcome
from ppolab.study.settings import StudySettings
from ppolab.study.trials import trial_name


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


class StudyJobs:
    """Turns the jobs of a study into configurations."""

    def __init__(self, settings: StudySettings, storage: str | None, studies: Path) -> None:
        self._settings = settings
        self._storage = storage
        self._studies = studies.absolute()  # a launcher's processes may stand elsewhere
        self._files = JobFiles(self._studies / settings.name)

    def prepared(self, job: Job) -> tuple[list[str], Path, str]:
        """(overrides, folder, the reference for the environment)."""
        folder = self._files.new(job, self._settings.seeds_per_trial)
        # no trial is filmed, unless asked for: drawing takes longer than a short run
        return ["logger.video=false", *job.overrides], folder, self._reference(job).as_text()

    def _reference(self, job: Job) -> TrialReference:
        settings = self._settings
        several = settings.seeds_per_trial > 1
        return TrialReference(
            storage=self._storage,
            folder=str(self._studies),
            study=settings.name,
            number=job.claim.number,
            trial_id=job.claim.trial_id,
            pruning=None if several or len(settings.directions) > 1 else settings.pruning,
            parent_run_id=job.parent_run_id,
            run_name=trial_name(job.claim.number, job.seed_index if several else None),
        )


def outcome_of(job: Job, folder: Path, result: Any, error: str | None) -> Outcome:
    """From what `ppolab.cli.train_job` returns inside a study."""
    if error is not None:
        return Outcome(job, "failed", error=error, folder=str(folder))
    return Outcome(job, result["end"], tuple(result["values"]), result["error"], str(folder))
