"""Let a run hand its records to another process, which sends them to the store: a sweep does so for its trials.

The sweep has imported MLflow and opened the store already. A trial would do both again, at the end of a training that
may have taken less time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from ppolab.records.metrics_file import metrics_by_step
from ppolab.records.run_folder import RunFolder
from ppolab.records.tracking.noted import Notes
from ppolab.records.tracking.operations import Artifact, CloseReport, Finish, RunDescription, RunStatus, Tags
from ppolab.records.tracking.tracker import Entry, EntryTracker, Logged, MlflowTracker, Tracker, milliseconds
from ppolab.records.tracking.unsent import forget, read_unsent, sent_by_us

logger = logging.getLogger(__name__)

_ASKING_SECONDS = 0.1
"""Until the store has answered, a relay looks so often whether it has."""


@dataclass(frozen=True)
class _Opened:
    """Begin the records of a run; what `MlflowTracker` is made of."""

    run: RunDescription
    uri: str
    backlog_path: Path


@dataclass(frozen=True)
class _Known:
    """Tell a run how the store knows it."""

    run_id: str
    page: str | None


class RelayedTracker(EntryTracker):
    """Hand the records of this process's run to the process at the other end of `connection`; see `Tracker`.

    A thread does so, since the other process may be stopped for a while, and training must not wait for it. In a forked
    child every method does nothing.
    """

    def __init__(self, run: RunDescription, uri: str, backlog_path: Path, connection: Connection) -> None:
        self._connection = connection
        self._known: _Known | None = None
        self._reading = threading.Lock()
        self._report: CloseReport | None = None
        self._pid = os.getpid()
        self._notes = Notes(run, backlog_path.parent)
        self._queue: queue.SimpleQueue[_Opened | Entry | Finish] = queue.SimpleQueue()
        self._queue.put(_Opened(run, uri, backlog_path))
        self._thread = threading.Thread(target=self._hand_over, name="ppolab-tracking", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """The run's id; None until the store has answered."""
        known = self._read(0.0)
        return None if known is None else known.run_id

    @property
    def page(self) -> str | None:
        """The address of the run's page; None until the store has answered."""
        known = self._read(0.0)
        return None if known is None else known.page

    def wait_for_id(self, seconds: float) -> str | None:
        """The run's id, as soon as it is known; None if that takes longer."""
        self._read(seconds)
        return self.run_id

    def take(self, entry: Entry) -> None:
        """Queue an entry. Never blocks, never raises."""
        if self._report is None and os.getpid() == self._pid:
            self._queue.put(entry)
            self._notes.take(entry)

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Hand over what is queued; the other process sends it, and marks the run. A second call does nothing.

        Until it has, the run's folder says what the store may lack, since the other process may be killed meanwhile.
        """
        if self._report is None:
            error = None
            if os.getpid() == self._pid:
                finish = Finish(status, milliseconds())
                self._notes.write(finish)
                self._queue.put(finish)
                self._thread.join(timeout)
                if not self._queue.empty():
                    error = "the sweep did not take them"
            left = self._left() if error else []
            self._report = CloseReport(
                run_id=self.run_id,
                unsent_metrics=sum(len(entry.metrics) for entry in left if isinstance(entry, Logged)),
                unsent_artifacts=sum(isinstance(entry, Artifact) for entry in left),
                error=error,
            )
        return self._report

    def _left(self) -> list[object]:
        left: list[object] = []
        with contextlib.suppress(queue.Empty):
            while True:
                left.append(self._queue.get_nowait())
        return left

    def _read(self, seconds: float) -> _Known | None:
        with self._reading, contextlib.suppress(EOFError, OSError):
            if self._known is None and os.getpid() == self._pid and self._connection.poll(seconds):
                self._known = self._connection.recv()
        return self._known

    def _hand_over(self) -> None:
        entry: object = None
        with contextlib.suppress(OSError):  # the sweep is gone, and takes this process with it
            while not isinstance(entry, Finish):
                entry = self._queue.get()
                self._connection.send(entry)


class TrackingRelay:
    """Send to their stores what runs in other processes hand over, each by a thread of its own."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._trackers: list[MlflowTracker] = []
        self._lacking = 0  # runs of which a store lacks something
        self._given_up = False

    def connection(self, parent: Tracker) -> Connection:
        """Return what a run's process makes its `RelayedTracker` of; its caller closes it once it has passed it on.

        Args:
            parent: the run that the run belongs to.
        """
        ours, theirs = Pipe()
        self._start(self._relay, ours, parent)
        return theirs

    def send_again(self, folders: Iterable[Path], uri: str, parent: Tracker) -> None:
        """Begin to send what the store `uri` may lack of runs that have ended, since their sweep was ended.

        Args:
            folders: see `unsent_runs`. parent: the run that they are shown below.
        """
        for folder in folders:
            self._start(self._send_again, folder, uri, parent)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="ppolab-relay", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def close(self) -> None:
        """Wait until the stores have all records of the runs, which have ended; Ctrl-C ends the wait."""
        try:
            for thread in self._threads:
                thread.join()
        except KeyboardInterrupt:
            self.give_up()
            for thread in self._threads:
                thread.join()
            raise
        finally:
            if self._lacking:
                logger.warning("the store lacks records of %d runs; the same command sends them again", self._lacking)

    def give_up(self) -> None:
        """End the wait of `close`: what has not arrived stays in the runs' folders."""
        self._given_up = True
        for tracker in list(self._trackers):
            tracker.give_up()

    def _relay(self, connection: Connection, parent: Tracker) -> None:
        with connection:
            try:
                opened = connection.recv()
            except (EOFError, OSError):  # the process ended before its run began
                return
            folder = opened.backlog_path.parent
            with sent_by_us(folder):
                tracker = MlflowTracker(opened.run, opened.uri, opened.backlog_path, parent=parent)
                self._trackers.append(tracker)
                finish = Finish("KILLED", milliseconds())  # of a process that could not say so itself
                with contextlib.suppress(EOFError, OSError):
                    finish = _handed_over(connection, tracker)
                self._close(tracker, finish, folder)
            with contextlib.suppress(EOFError, OSError):
                connection.recv()  # nothing comes any more: the process has ended
        if tracker.run_id is not None:
            RunFolder(folder).note_run_id(tracker.run_id)

    def _send_again(self, folder: Path, uri: str, parent: Tracker) -> None:
        with sent_by_us(folder) as ours:  # else another sweep of the study does so
            unsent = read_unsent(folder) if ours else None
            if unsent is None:
                return
            logger.info("%s: the tracking store may lack its records; they are sent again", folder)
            tracker = MlflowTracker(unsent.run, uri, RunFolder(folder).backlog, parent=parent)
            self._trackers.append(tracker)
            points = list(unsent.metrics)
            with contextlib.suppress(OSError):  # the file may be gone
                points += metrics_by_step(RunFolder(folder).metrics)
            for step, metrics in points:
                tracker.take(Logged(metrics, unsent.finish.end_time, step))
            tracker.take(Tags(unsent.tags))
            for artifact in unsent.artifacts:
                tracker.take(artifact)
            self._close(tracker, unsent.finish, folder)
            if tracker.run_id is not None:
                RunFolder(folder).note_run_id(tracker.run_id)

    def _close(self, tracker: MlflowTracker, finish: Finish, folder: Path) -> None:
        if self._given_up:  # before it was there
            tracker.give_up()
        report = tracker.close_as(finish)
        self._trackers.remove(tracker)
        if report.error is None:
            forget(folder)
        else:
            self._lacking += 1


def _handed_over(connection: Connection, tracker: MlflowTracker) -> Finish:
    """Take the entries of a run; return its last one. Tell the run its id as soon as the store has answered."""
    told = False
    while True:
        if not told and tracker.run_id is not None:
            with contextlib.suppress(OSError):  # the run has ended already; what it handed over is still to be read
                connection.send(_Known(tracker.run_id, tracker.page))
            told = True
        if connection.poll(None if told else _ASKING_SECONDS):
            entry = connection.recv()
            if isinstance(entry, Finish):
                return entry
            tracker.take(entry)
