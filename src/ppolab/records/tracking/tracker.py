"""The queue between the training thread and the store, and the thread that empties it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from ppolab.errors import TrackingError
from ppolab.records.tracking.links import run_link
from ppolab.records.tracking.mlflow_store import Importing, RunStore, is_permanent
from ppolab.records.tracking.operations import (
    METRICS_PER_BATCH,
    Artifact,
    CloseReport,
    Finish,
    Operation,
    Point,
    Points,
    RunDescription,
    RunStatus,
    Start,
    Tags,
    backlog_line,
    describe,
    parameter_batches,
    split,
    stored_tags,
)
from ppolab.redaction import redact

logger = logging.getLogger(__name__)

_HEAD_START_SECONDS = 1.0  # the import of MLflow would take the interpreter from the first rollout
_FLUSH_SECONDS = 2.0
_WAKE_ENTRIES = 50  # about one full batch at twenty metrics a call
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 10.0
_CLOSING_RETRY_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 300.0
_TELL_CLOSE_SECONDS = 10.0
_PARENT_SECONDS = 20.0  # after that, the run belongs to no other in the store


class Tracker(Protocol):
    """Where a run reports to. No method blocks the training thread, except `close`, for its time limit."""

    @property
    def run_id(self) -> str | None:
        """The store's id of the run; None until the store has answered, or with tracking off."""

    @property
    def page(self) -> str | None:
        """The address of the run's page in MLflow's UI; None as long as `run_id` is."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue `metrics` at `step` environment steps. Never blocks, never raises."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Queue the upload of a file or directory into the run's artifact `folder`. It is read when sent."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags of the run; those of the same name are replaced."""

    def wait_for_id(self, seconds: float) -> str | None:
        """The store's id of the run, as soon as it is known; None if the store fails to answer for so long.

        One that is only slow gets five minutes: making a new database can take half of one on a busy machine.
        """

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Send what is queued, and mark the run; a second call does nothing.

        It gives up once the store has not answered for `timeout` seconds; one that is only slow gets five minutes.
        """

    def give_up(self) -> None:
        """End the wait of `close`, which another thread or a signal may do; what is not sent is kept in files."""


class NoTracker:
    """Tracking switched off."""

    run_id: str | None = None
    page: str | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the metrics."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Leave the file where it is."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Drop the tags."""

    def wait_for_id(self, seconds: float) -> str | None:
        """There is none."""
        return None

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Report that nothing is missing."""
        return CloseReport(run_id=None, unsent_metrics=0, unsent_artifacts=0, error=None)

    def give_up(self) -> None:
        """Do nothing: nobody waits."""


@dataclass(frozen=True)
class Logged:
    """One call of `log_metrics`, as it stands in the queue."""

    metrics: dict[str, float]
    timestamp: int
    step: int


Entry = Logged | Artifact | Tags
"""What one call adds to a queue."""


Kind = TypeVar("Kind", Tags, Points)
_KINDS = {Logged: "metrics", Artifact: "an artifact", Tags: "tags"}


class EntryTracker:
    """Make entries of what is recorded, on the training thread; `take` is what becomes of them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue `metrics` at `step` environment steps. Never blocks, never raises."""
        self.take(Logged(dict(metrics), milliseconds(), step))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Queue the upload of a file or directory into the run's artifact `folder`. It is read when sent."""
        self.take(Artifact(str(Path(path).absolute()), folder))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags of the run; those of the same name are replaced."""
        self.take(Tags(stored_tags(tags)))

    def take(self, entry: Entry) -> None:
        """Queue an entry. Never blocks, never raises."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Do nothing, where nobody waits for a store."""


class MlflowTracker(EntryTracker):
    """Records a run in the MLflow store `uri`; see `Tracker` for the methods.

    Operations that the store refused, or that were still queued when `close` ran out of time, are appended to
    `backlog_path`, one JSON object a line; the file is made only then. In a forked child every method does
    nothing. MLflow is imported, on the thread that sends, inside what `importing` returns.

    `parent`: a run of this process that the run is shown below, once the store has answered for that one; then this
    process does not train, and the store is opened at once.
    """

    def __init__(
        self,
        run: RunDescription,
        uri: str,
        backlog_path: Path,
        *,
        parent: Tracker | None = None,
        importing: Importing = contextlib.nullcontext,
    ) -> None:
        self._uri = uri
        self._backlog_path = backlog_path
        self._parent = parent
        self._store = RunStore(uri, importing)
        self._queue: deque[Entry | Finish] = deque()  # filled by the training thread
        # next to be sent
        self._pending: deque[Operation] = deque([Start(run, run.tried_at or milliseconds()), *parameter_batches(run)])
        self._rejected: list[Operation] = []
        self._lock = threading.Lock()  # guards _pending and _rejected, never taken by log_metrics
        self._wake = threading.Event()
        self._hurry = threading.Event()  # somebody waits for the run's id, or the run is over
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._failures = 0  # in a row
        self._answered = 0.0  # when the store last did
        self._error: str | None = None
        self._warned: set[str] = set()
        self._report: CloseReport | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._work, name="ppolab-tracking", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """The run's id; None until the store has answered."""
        return self._store.run_id

    @property
    def page(self) -> str | None:
        """The address of the run's page; None until the store has answered. It costs nothing."""
        run_id, experiment_id = self._store.run_id, self._store.experiment_id
        return None if run_id is None or experiment_id is None else run_link(self._uri, experiment_id, run_id)

    # --- on the training thread ----------------------------------------------------------------------------------

    def take(self, entry: Entry) -> None:
        """Queue an entry. Never blocks, never raises."""
        if self._accepts(_KINDS[type(entry)]):
            self._queue.append(entry)
            if isinstance(entry, Logged) and len(self._queue) >= _WAKE_ENTRIES:
                self._wake.set()

    def wait_for_id(self, seconds: float) -> str | None:
        """The run's id, as soon as it is known; None if the store fails to answer for so long."""
        self._hurry.set()
        began = time.monotonic()
        while not self._opened.wait(0.1):
            if time.monotonic() - began >= (seconds if self._failures else _LONGEST_WAIT_SECONDS):
                break
        return self.run_id

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Send what is queued until the store has not answered for `timeout` seconds, and mark the run."""
        return self.close_as(Finish(status, milliseconds()), timeout)

    def close_as(self, finish: Finish, timeout: float = 30.0) -> CloseReport:
        """Close a run that ended as `finish` says."""
        if os.getpid() != self._pid:
            return CloseReport(run_id=self.run_id, unsent_metrics=0, unsent_artifacts=0, error=None)
        if self._report is None:
            if not self._closing.is_set():
                self._queue.append(finish)
            self._closing.set()
            self._hurry.set()
            self._wake.set()
            try:
                self._await_thread(timeout)
            finally:
                self._abandoned.set()
                self._report = self._settle()
        return self._report

    def give_up(self) -> None:
        """End a wait for the store in a call of `close`; what is not sent goes to the backlog."""
        self._abandoned.set()

    def _await_thread(self, patience: float) -> None:
        began = self._answered = time.monotonic()
        told = False
        while self._thread.is_alive() and not self._abandoned.is_set():
            now, end = time.monotonic(), began + _LONGEST_WAIT_SECONDS
            if self._failures:  # else it is busy, if only with importing MLflow on a slow machine
                end = min(end, self._answered + patience)
            if now >= end:
                return
            if now >= began + _TELL_CLOSE_SECONDS and not told:
                told = True
                logger.info("sending the last records to %s; Ctrl-C leaves them in the run's folder", redact(self._uri))
            self._thread.join(min(end - now, 1.0))

    def _accepts(self, what: str) -> bool:
        if os.getpid() != self._pid:
            return False
        if self._closing.is_set():
            self._warn_once("closed", f"{what} logged after the end of the run: dropped")
            return False
        return True

    def _settle(self) -> CloseReport:
        """Count what is left, and write it to the backlog file."""
        self._drain()
        with self._lock:
            left = [*self._rejected, *self._pending]
        error = None
        if left:
            error = self._error or "the wait for them ended while they were still being sent"
            try:
                self._backlog_path.parent.mkdir(parents=True, exist_ok=True)
                with self._backlog_path.open("a", encoding="utf-8") as file:
                    file.writelines(backlog_line(operation, self.run_id) for operation in left)
                logger.warning("records that the tracking store lacks are in %s (%s)", self._backlog_path, error)
            except OSError as failure:
                error = f"{error}; the backlog could not be written: {failure}"
                logger.error("unsent records are lost: %s", error)
        return CloseReport(
            run_id=self.run_id,
            unsent_metrics=sum(len(operation.points) for operation in left if isinstance(operation, Points)),
            unsent_artifacts=sum(isinstance(operation, Artifact) for operation in left),
            error=error,
        )

    # --- on the tracking thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._parent is None:
            self._hurry.wait(_HEAD_START_SECONDS)
        try:
            self._name_parent()
            self._pump()
        except TrackingError as error:
            self._error = str(error)
            logger.error("%s; this run goes on untracked, its records go to %s", error, self._backlog_path)
        except Exception as error:
            self._error = redact(f"{type(error).__name__}: {error}")
            logger.error("the tracking thread failed:\n%s", redact(traceback.format_exc()))
        finally:
            self._opened.set()  # nobody need wait any longer

    def _name_parent(self) -> None:
        """Write into the start of the run below which other run it is shown."""
        start = self._pending[0]
        if self._parent is not None and isinstance(start, Start):
            run = replace(start.run, parent_run_id=self._parent.wait_for_id(_PARENT_SECONDS))
            with self._lock:
                self._pending[0] = replace(start, run=run)

    def _pump(self) -> None:
        """Send until the run is closed and nothing is left, or until `close` gave up waiting."""
        while not self._abandoned.is_set():
            last = self._closing.is_set()  # read first: what was queued before closing is then in the queue
            self._drain()
            while self._pending and not self._abandoned.is_set():
                self._send_first()
                self._drain()
            if last:
                return
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()

    def _drain(self) -> None:
        """Move what was queued to what is next to be sent, metrics packed into batches, tags into one."""
        with self._lock:
            while self._queue:
                entry = self._queue.popleft()
                if isinstance(entry, Logged):
                    self._pack(entry)
                elif isinstance(entry, Tags) and (tags := self._last(Tags)) is not None:
                    tags.values.update(entry.values)
                else:
                    self._pending.append(entry)

    def _pack(self, entry: Logged) -> None:
        for key, raw in entry.metrics.items():
            try:
                value = float(raw)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                self._warn_once(f"number {key}", f"metric {key} is not a number ({raw!r:.80}): dropped")
                continue
            batch = self._last(Points)
            if batch is None or len(batch.points) >= METRICS_PER_BATCH:
                batch = Points()
                self._pending.append(batch)
            batch.points.append(Point(key, value, entry.timestamp, entry.step))

    def _last(self, kind: type[Kind]) -> Kind | None:
        """Return the last operation of a kind that is not sent yet; the order of tags and metrics means nothing."""
        return next((each for each in reversed(self._pending) if isinstance(each, kind)), None)

    def _send_first(self) -> None:
        operation = self._pending[0]
        try:
            self._store.send(operation)
        except Exception as error:
            self._failures += 1
            self._error = redact(f"{type(error).__name__}: {error}")
            if is_permanent(error, self._failures):
                self._reject(operation)
            else:
                self._back_off()
            return
        self._answered = time.monotonic()
        with self._lock:
            self._pending.popleft()
        if isinstance(operation, Start):
            self._opened.set()
        if self._failures > 1:
            logger.info("tracking store %s answers again", redact(self._uri))
        self._failures = 0

    def _reject(self, operation: Operation) -> None:
        """Set a refused operation aside; of a refused batch, only the part that the store does not take."""
        self._failures = 0
        if isinstance(operation, Start):
            raise TrackingError(f"tracking store {redact(self._uri)} refused the run: {self._error}")
        parts = split(operation)
        with self._lock:
            self._pending.popleft()
            self._pending.extendleft(reversed(parts))
            if not parts:
                self._rejected.append(operation)
        if not parts:
            name = describe(operation)
            self._warn_once(f"refused {name}", f"the tracking store refused {name}: {self._error}")

    def _back_off(self) -> None:
        # One failure is often a connection that the server had closed while idle: no news yet.
        if self._failures == 2:
            logger.warning(
                "tracking store %s does not answer; training goes on, records are kept and sent later (%s)",
                redact(self._uri),
                self._error,
            )
        closing = self._closing.is_set()
        longest = _CLOSING_RETRY_SECONDS if closing else _LAST_RETRY_SECONDS
        delay = min(_FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 10), longest)
        (self._abandoned if closing else self._closing).wait(delay)

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            logger.warning("%s", message)


def milliseconds() -> int:
    """Return the time since 1970 as a store takes it."""
    return time.time_ns() // 1_000_000
