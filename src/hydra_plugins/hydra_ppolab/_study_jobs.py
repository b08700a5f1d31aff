"""Prepare a study's run for any launcher: its settings, its folder, and the reference to its trial."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from ppolab.records.wording import command_with
from ppolab.study.claims import trial_name
from ppolab.study.settings import StudySettings
from ppolab.study.sweep_loop import Job, Outcome
from ppolab.study.trial_process import TrialReference


class JobFiles:
    """Make the folders of a study's runs: one per trial, or per seed; never one that is there already."""

    def __init__(self, study: Path) -> None:
        self._study = study

    def new(self, job: Job, seeds: int) -> Path:
        """Return a new folder, which is made here, so that nobody else takes it."""
        name = trial_name(job.claim.number, job.seed_index) if seeds > 1 else job.claim.name
        for attempt in itertools.count(1):
            folder = self._study / (name if attempt == 1 else f"{name}-again-{attempt}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise AssertionError("itertools.count ends")


class StudyJobs:
    """Turn the jobs of a study into overrides, folders and references to their trials."""

    def __init__(self, settings: StudySettings, storage: str | None, studies: Path) -> None:
        self._settings = settings
        self._storage = storage
        self._studies = studies.absolute()  # a launcher's processes may stand elsewhere
        self._files = JobFiles(self._studies / settings.name)

    def prepared(self, job: Job, parent_run_id: str | None = None) -> tuple[list[str], Path, str]:
        """Return (overrides, folder, the reference for the environment variable).

        Args:
            parent_run_id: the tracking run that the run belongs to, where its process records it itself.
        """
        folder = self._files.new(job, self._settings.seeds_per_trial)
        # no trial is filmed, unless asked for: drawing takes longer than a short run
        unless_given = ["logger.video=false", *(["eval_interval=0"] if job.claim.segment else [])]
        return [*unless_given, *job.overrides], folder, self._reference(job, parent_run_id).as_text()

    def _reference(self, job: Job, parent_run_id: str | None) -> TrialReference:
        settings = self._settings
        several = settings.seeds_per_trial > 1
        return TrialReference(
            storage=self._storage,
            folder=str(self._studies),
            study=settings.name,
            number=job.claim.number,
            trial_id=job.claim.trial_id,
            pruning=None if several or len(settings.directions) > 1 or job.claim.segment else settings.pruning,
            parent_run_id=parent_run_id,
            run_name=trial_name(job.claim.number, job.seed_index) if several else job.claim.name,
            command_alone=command_with("train", job.overrides),
            segment=job.claim.segment,
        )


def outcome_of(
    job: Job, folder: Path, result: Any, error: str | None, seconds: float, *, died: bool = False
) -> Outcome:
    """Return the outcome that `ppolab.cli.jobs.train_job` describes inside a study.

    Args:
        error: why it describes none. died: that is because the process was killed.
    """
    if error is not None:
        return Outcome(job, "failed", error=error, folder=str(folder), seconds=seconds, died=died)
    return Outcome(job, result["end"], tuple(result["values"]), result["error"], str(folder), seconds)
