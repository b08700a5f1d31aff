"""Send the records of a sweep's run, and let a folder say meanwhile what the store may lack."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ppolab.records.tracking.operations import Artifact, CloseReport, Finish, RunDescription, RunStatus, Tags
from ppolab.records.tracking.tracker import Entry, EntryTracker, MlflowTracker, milliseconds
from ppolab.records.tracking.unsent import Unsent, forget, sent_by_us


class Notes:
    """Gather what a run records, and write it into its folder when it ends.

    Args:
        keeps_metrics: no file of the folder has the metrics.
    """

    def __init__(self, run: RunDescription, folder: Path, *, keeps_metrics: bool = False) -> None:
        self._unsent = Unsent(replace(run, tried_at=run.tried_at or milliseconds()), {}, (), Finish("KILLED", 0))
        self._folder = folder
        self._keeps_metrics = keeps_metrics

    def take(self, entry: Entry) -> None:
        """Add what the run records."""
        unsent = self._unsent
        if isinstance(entry, Tags):
            unsent.tags.update(entry.values)
        elif isinstance(entry, Artifact):
            self._unsent = replace(unsent, artifacts=(*unsent.artifacts, entry))
        elif self._keeps_metrics:
            self._unsent = replace(unsent, metrics=(*unsent.metrics, (entry.step, entry.metrics)))

    def write(self, finish: Finish) -> None:
        """Say in the folder that the store may lack all of it, from before it is sent until it has arrived."""
        with suppress(OSError):  # a full disk, for one
            self._folder.mkdir(parents=True, exist_ok=True)
            replace(self._unsent, finish=finish).write(self._folder)


class NotedTracker(EntryTracker):
    """Record as `tracker` does; what it has not sent when this process is killed, the sweep's next command sends.

    Args:
        run, keeps_metrics: as `Notes` has them. folder: where it is noted.
    """

    def __init__(
        self, tracker: MlflowTracker, run: RunDescription, folder: Path, *, keeps_metrics: bool = False
    ) -> None:
        self._tracker = tracker
        self._notes = Notes(run, folder, keeps_metrics=keeps_metrics)
        self._folder = folder
        self._report: CloseReport | None = None

    @property
    def run_id(self) -> str | None:
        """The run's id; None until the store has answered."""
        return self._tracker.run_id

    @property
    def page(self) -> str | None:
        """The address of the run's page; None until the store has answered."""
        return self._tracker.page

    def wait_for_id(self, seconds: float) -> str | None:
        """The run's id, as soon as it is known; None if the store fails to answer for so long."""
        return self._tracker.wait_for_id(seconds)

    def take(self, entry: Entry) -> None:
        """Queue an entry. Never blocks, never raises."""
        self._tracker.take(entry)
        if self._report is None:
            self._notes.take(entry)

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Send what is queued, and mark the run; a second call does nothing."""
        if self._report is None:
            finish = Finish(status, milliseconds())
            self._notes.write(finish)
            with sent_by_us(self._folder):
                self._report = self._tracker.close_as(finish, timeout)
            if self._report.error is None:
                forget(self._folder)
        return self._report

    def give_up(self) -> None:
        """End the wait of `close`."""
        self._tracker.give_up()
