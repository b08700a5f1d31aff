"""Runs, metrics and files in MLflow, written by a background thread.

The training thread appends to a queue and never waits. One daemon thread imports MLflow, opens the run, and
sends what is queued in order: metrics in batches, files one by one. While the store is away the queue grows
and the thread tries again; every operation may be repeated safely, so an answer that was lost on the way back
costs nothing. What could not be sent when the run ends is written to a JSON-lines file.

This is the only module of the project that imports MLflow, and it does so inside functions: the import takes
seconds that neither `--help` nor a mistyped key should cost.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from ppolab.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

_CHECKPOINT_FOLDER = "checkpoints"
_DISTRIBUTIONS = ("ppolab", "torch", "pytorch-lightning", "gymnasium", "envpool", "mujoco", "mlflow", "numpy")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# MLflow's own limits (mlflow.utils.validation); tags are kept to what older servers take.
_METRICS_PER_BATCH = 1000
_PARAMETERS_PER_BATCH = 100
_PARAMETER_LENGTH = 6000
_TAG_LENGTH = 5000

_FLUSH_SECONDS = 2.0
_WAKE_ENTRIES = 50  # about one full batch at twenty metrics a call
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 10.0
_CLOSING_RETRY_SECONDS = 2.0
_UNKNOWN_ERROR_TRIES = 8
_LOCK_SECONDS = 60.0
_GIT_SECONDS = 5.0
_RETRIED_CLIENT_ERRORS = (408, 425, 429)


@dataclass(frozen=True)
class RunDescription:
    """What the store is told about a run: names, flattened configuration, tags.

    `resume_run_id` goes on with that run. Its parameters and tags stay as they are, since MLflow lets no
    parameter change; those that differ now are recorded in its tag `resumed_with`. If the store does not hold
    that run, a new one is made with the tag `resumed_from`.
    """

    experiment: str
    run_name: str
    parameters: Mapping[str, object]
    tags: Mapping[str, str]
    resume_run_id: str | None = None


@dataclass(frozen=True)
class CloseReport:
    """What became of a run's records: `unsent_*` count those the store did not get, `error` says why."""

    run_id: str | None
    unsent_metrics: int
    unsent_artifacts: int
    error: str | None


class Tracker(Protocol):
    """Where a run reports to. No method blocks the training thread, except `close`, for its time limit."""

    @property
    def run_id(self) -> str | None:
        """The store's id of the run; None until the store has answered, or with tracking off."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue `metrics` at `step` environment steps. Never blocks, never raises."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Queue the upload of a file or directory into the run's artifact `folder`. It is read when sent."""

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Send what is queued for at most `timeout` seconds, and mark the run; a second call does nothing."""


class NoTracker:
    """Tracking switched off."""

    run_id: str | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the metrics."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Leave the file where it is."""

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Report that nothing is missing."""
        return CloseReport(run_id=None, unsent_metrics=0, unsent_artifacts=0, error=None)


@dataclass(frozen=True)
class _Start:
    """Open the run."""

    kind: ClassVar[str] = "start"
    run: RunDescription


@dataclass(frozen=True)
class _Parameters:
    kind: ClassVar[str] = "parameters"
    values: dict[str, str]


@dataclass(frozen=True)
class _Point:
    key: str
    value: float
    timestamp: int  # milliseconds since 1970
    step: int


@dataclass(frozen=True)
class _Points:
    """Metric points; grows until it is full or something else is queued after it."""

    kind: ClassVar[str] = "metrics"
    points: list[_Point] = field(default_factory=list)


@dataclass(frozen=True)
class _Artifact:
    kind: ClassVar[str] = "artifact"
    path: str
    folder: str


@dataclass(frozen=True)
class _Finish:
    """Mark the run as ended."""

    kind: ClassVar[str] = "finish"
    status: RunStatus
    end_time: int


@dataclass(frozen=True)
class _Logged:
    """One call of `log_metrics`, as it stands in the queue."""

    metrics: dict[str, float]
    timestamp: int
    step: int


_Operation = _Start | _Parameters | _Points | _Artifact | _Finish


class _Store:
    """One run in one MLflow store. Every method blocks, raises what MLflow raises, and may be repeated."""

    def __init__(self, uri: str) -> None:
        self.run_id: str | None = None
        self._uri = uri
        self._client: MlflowClient | None = None
        self._resumed = False
        self._start_token = uuid.uuid4().hex
        self._start_tried = False

    def send(self, operation: _Operation) -> None:
        """Carry out one operation."""
        if isinstance(operation, _Start):
            self._open(operation.run)
            return
        client, run_id = self._client, self.run_id
        if client is None or run_id is None:
            raise RuntimeError("the run was never opened")
        match operation:
            case _Parameters(values):
                self._log_parameters(client, run_id, values)
            case _Points(points):
                self._log_points(client, run_id, points)
            case _Artifact(path, folder):
                client.log_artifact(run_id, path, folder or None)
            case _Finish(status, end_time):
                client.set_terminated(run_id, status, end_time)

    def _open(self, run: RunDescription) -> None:
        client = _connect(self._uri)
        self._client = client
        if run.resume_run_id is not None:
            earlier = _find_run(client, run.resume_run_id)
            if earlier is not None:
                self._resume(client, run, earlier)
                return
            logger.warning("run %s is not in %s: a new run is recorded there", run.resume_run_id, redact(self._uri))
            run = replace(run, tags={**run.tags, "resumed_from": run.resume_run_id})
        self.run_id = self._create(client, run)

    def _resume(self, client: MlflowClient, run: RunDescription, earlier: Run) -> None:
        recorded = (earlier.data.params, earlier.data.tags)
        current = (_format_parameters(run.parameters), _format_tags(run.tags))
        changed = {
            name: {key: value for key, value in now.items() if then.get(key) != value}
            for name, then, now in zip(("parameters", "tags"), recorded, current, strict=True)
        }
        run_id = earlier.info.run_id
        client.update_run(run_id, status="RUNNING")
        client.set_tag(run_id, "resumed_with", _clip(json.dumps(changed), _TAG_LENGTH))
        self._resumed = True
        self.run_id = run_id

    def _create(self, client: MlflowClient, run: RunDescription) -> str:
        with _creation_lock(self._uri):
            experiment = _experiment_id(client, run.experiment, _artifact_root(self._uri))
        if self._start_tried:
            # An earlier try may have made the run although its answer never arrived.
            made = client.search_runs([experiment], f"tags.start_token = '{self._start_token}'", max_results=1)
            if made:
                return str(made[0].info.run_id)
        self._start_tried = True
        tags = {**_format_tags(run.tags), "start_token": self._start_token}
        return str(client.create_run(experiment, tags=tags, run_name=run.run_name).info.run_id)

    def _log_parameters(self, client: MlflowClient, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import Param

        if not self._resumed:
            client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])

    def _log_points(self, client: MlflowClient, run_id: str, points: list[_Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in points]
        client.log_batch(run_id, metrics=metrics)


class MlflowTracker:
    """Records a run in the MLflow store `uri`; see `Tracker` for the methods.

    Operations that the store refused, or that were still queued when `close` ran out of time, are appended to
    `backlog_path`, one JSON object a line; the file is made only then. In a forked child every method does
    nothing.
    """

    def __init__(self, run: RunDescription, uri: str, backlog_path: Path) -> None:
        self._uri = uri
        self._backlog_path = backlog_path
        self._store = _Store(uri)
        self._queue: deque[_Logged | _Artifact | _Finish] = deque()
        self._pending: deque[_Operation] = deque([_Start(run), *_parameter_batches(run.parameters)])
        self._rejected: list[_Operation] = []
        self._lock = threading.Lock()  # guards _pending and _rejected, never taken by log_metrics
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._failures = 0
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

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue `metrics` at `step` environment steps. Never blocks, never raises."""
        if self._accepts("metrics"):
            self._queue.append(_Logged(dict(metrics), _milliseconds(), step))
            if len(self._queue) >= _WAKE_ENTRIES:
                self._wake.set()

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Queue the upload of a file or directory into the run's artifact `folder`. It is read when sent."""
        if self._accepts("an artifact"):
            self._queue.append(_Artifact(str(Path(path).absolute()), folder))

    def close(self, status: RunStatus, timeout: float = 30.0) -> CloseReport:
        """Send what is queued, at most `timeout` seconds long, and mark the run. Never raises."""
        if os.getpid() != self._pid:
            return CloseReport(run_id=self.run_id, unsent_metrics=0, unsent_artifacts=0, error=None)
        if self._report is None:
            if not self._closing.is_set():
                self._queue.append(_Finish(status, _milliseconds()))
            self._closing.set()
            self._wake.set()
            try:
                self._thread.join(timeout)
            finally:
                self._abandoned.set()
                self._report = self._settle()
        return self._report

    def _accepts(self, what: str) -> bool:
        if os.getpid() != self._pid:
            return False
        if self._closing.is_set():
            self._warn_once("closed", f"{what} logged after the end of the run: dropped")
            return False
        return True

    def _work(self) -> None:
        try:
            self._pump()
        except TrackingError as error:
            self._error = str(error)
            logger.error("%s; this run goes on untracked, its records go to %s", error, self._backlog_path)
        except Exception as error:
            self._error = redact(f"{type(error).__name__}: {error}")
            logger.error("the tracking thread failed:\n%s", redact(traceback.format_exc()))

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
        with self._lock:
            while self._queue:
                entry = self._queue.popleft()
                if isinstance(entry, _Logged):
                    self._buffer(entry)
                else:
                    self._pending.append(entry)

    def _buffer(self, entry: _Logged) -> None:
        for key, raw in entry.metrics.items():
            try:
                value = float(raw)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                self._warn_once(f"number {key}", f"metric {key} is not a number ({raw!r:.80}): dropped")
                continue
            batch = self._pending[-1] if self._pending else None
            if not isinstance(batch, _Points) or len(batch.points) >= _METRICS_PER_BATCH:
                batch = _Points()
                self._pending.append(batch)
            batch.points.append(_Point(key, value, entry.timestamp, entry.step))

    def _send_first(self) -> None:
        operation = self._pending[0]
        try:
            self._store.send(operation)
        except Exception as error:
            self._failures += 1
            self._error = redact(f"{type(error).__name__}: {error}")
            if _is_permanent(error, self._failures):
                self._reject(operation)
            else:
                self._back_off()
            return
        with self._lock:
            self._pending.popleft()
        if self._failures > 1:
            logger.info("tracking store %s answers again", redact(self._uri))
        self._failures = 0

    def _reject(self, operation: _Operation) -> None:
        """Set a refused operation aside; of a refused batch, only the part that the store does not take."""
        self._failures = 0
        if isinstance(operation, _Start):
            raise TrackingError(f"tracking store {redact(self._uri)} refused the run: {self._error}")
        parts = _split(operation)
        with self._lock:
            self._pending.popleft()
            self._pending.extendleft(reversed(parts))
            if not parts:
                self._rejected.append(operation)
        if not parts:
            name = _name(operation)
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

    def _settle(self) -> CloseReport:
        """Count what is left, and write it to the backlog file."""
        self._drain()
        with self._lock:
            left = [*self._rejected, *self._pending]
        error = None
        if left:
            error = self._error or "the time limit ran out while records were still being sent"
            records = "".join(_record(operation, self.run_id) + "\n" for operation in left)
            try:
                self._backlog_path.parent.mkdir(parents=True, exist_ok=True)
                with self._backlog_path.open("a", encoding="utf-8") as file:
                    file.write(records)
                logger.warning("records that the tracking store lacks are in %s (%s)", self._backlog_path, error)
            except OSError as failure:
                error = f"{error}; the backlog could not be written: {failure}"
                logger.error("unsent records are lost: %s", error)
        return CloseReport(
            run_id=self.run_id,
            unsent_metrics=sum(len(operation.points) for operation in left if isinstance(operation, _Points)),
            unsent_artifacts=sum(isinstance(operation, _Artifact) for operation in left),
            error=error,
        )

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            logger.warning("%s", message)


def resolve_tracking_uri(configured: str | None, outputs: Path) -> str:
    """The store's URI: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in `outputs`, made absolute.

    Raises:
        ConfigError: the URI names no server and no database (MLflow's file store takes no new runs).
    """
    default = _sqlite_uri(outputs.absolute() / "mlflow.db")
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or default
    scheme = uri.partition("://")[0]
    if scheme not in ("http", "https", "databricks") and scheme.partition("+")[0] not in _DATABASES:
        raise ConfigError(
            f"logger.tracking_uri={redact(uri)}: the tracking store must be a server or a database;"
            " use http://HOST:PORT or sqlite:////PATH/mlflow.db (file stores are no longer supported)"
        )
    database = _sqlite_path(uri)
    return uri if database is None else _sqlite_uri(database)


def environment_tags() -> dict[str, str]:
    """Tags that say what ran: git commit and state, versions, host, platform, user, command line.

    The commit is that of ppolab's own source when it runs from a checkout, else that of the current folder.
    """
    command = redact(shlex.join(sys.orig_argv))
    tags = {
        "version.python": platform.python_version(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "command": command,
        "mlflow.source.name": redact(sys.argv[0]),
        "mlflow.source.type": "LOCAL",
    }
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    for distribution in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            tags[f"version.{distribution}"] = importlib.metadata.version(distribution)
    source = Path(__file__).resolve()
    folder = source.parent if _git(source.parent, "ls-files", "--error-unmatch", source.name) else Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        dirty = bool(_git(folder, "status", "--porcelain"))
        tags |= {"git.commit": commit, "git.dirty": str(dirty).lower(), "mlflow.source.git.commit": commit}
    return tags


def find_run_artifacts(uri: str, run_id: str, destination: Path) -> Path:
    """Download the artifact folder `checkpoints` of run `run_id` into `destination`; returns the folder.

    Raises:
        TrackingError: the store does not answer, or holds no such run, or the run has no checkpoints.
    """
    database = _sqlite_path(uri)
    if database is not None and not database.exists():
        raise TrackingError(f"no run {run_id}: there is no tracking store at {database}")
    try:
        client = _connect(uri)
        if _find_run(client, run_id) is None:
            raise TrackingError(f"no run {run_id} in {redact(uri)}")
        if not client.list_artifacts(run_id, _CHECKPOINT_FOLDER):
            raise TrackingError(f"run {run_id} in {redact(uri)} has no artifact folder {_CHECKPOINT_FOLDER}")
        destination.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, _CHECKPOINT_FOLDER, str(destination)))
    except TrackingError:
        raise
    except Exception as error:
        # Not chained: the original text may hold the credentials of the URI.
        raise TrackingError(redact(f"cannot read run {run_id} from {uri}: {error}")) from None


def ui_command(uri: str) -> str:
    """What a user types to look at the runs in the store `uri`; credentials are replaced by ***."""
    if uri.startswith(("http://", "https://")):
        return f"open {redact(uri)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(redact(uri))} --host 127.0.0.1 --port 5000"


def redact(uri: str) -> str:
    """`uri`, or any text that holds URIs, with credentials replaced by ***."""
    text = re.sub(r"(\w://)[^/\s'\"]*@", r"\1***@", uri)
    return re.sub(r"([?&](?:password|passwd|token)=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)


def _connect(uri: str) -> MlflowClient:
    """A client of the store; makes the database if it is a local one that is not there yet."""
    defaults = {
        # Retries are the tracker's: MLflow's would block for minutes, and could make one run twice.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for noisy in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    with _creation_lock(uri):
        return MlflowClient(tracking_uri=uri)


def _creation_lock(uri: str) -> contextlib.AbstractContextManager[object]:
    """Held while a local database or an experiment in it is made: MLflow's check-then-create races."""
    from filelock import FileLock

    database = _sqlite_path(uri)
    if database is None:
        return contextlib.nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=_LOCK_SECONDS)


def _sqlite_path(uri: str) -> Path | None:
    scheme, _, rest = uri.partition(":///")
    return Path(urllib.parse.unquote(rest)).absolute() if scheme == "sqlite" and rest else None


def _sqlite_uri(database: Path) -> str:
    # SQLAlchemy decodes %xx in the path and takes ? as the start of options.
    return "sqlite:///" + str(database).replace("%", "%25").replace("?", "%3F")


def _artifact_root(uri: str) -> str | None:
    """Where an experiment's files go: beside a local database; None lets a server choose."""
    database = _sqlite_path(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


def _experiment_id(client: MlflowClient, name: str, artifact_root: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_root))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process may have been faster
            if found is None:
                raise
    return str(found.experiment_id)


def _find_run(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _is_permanent(error: Exception, failures: int) -> bool:
    """Whether trying again is pointless: the request is refused, or the local file is not there."""
    from mlflow.exceptions import MlflowException

    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    if status is not None:
        return 400 <= status < 500 and status not in _RETRIED_CLIENT_ERRORS
    if isinstance(error, OSError):  # includes every network failure that is not wrapped
        return isinstance(error, FileNotFoundError | PermissionError)
    return failures >= _UNKNOWN_ERROR_TRIES


def _split(operation: _Operation) -> list[_Operation]:
    """The operation as one per metric or parameter name; empty if it holds a single name already."""
    parts: list[_Operation] = []
    match operation:
        case _Parameters(values):
            parts = [_Parameters({key: value}) for key, value in values.items()]
        case _Points(points):
            by_key: dict[str, list[_Point]] = {}
            for point in points:
                by_key.setdefault(point.key, []).append(point)
            parts = [_Points(group) for group in by_key.values()]
    return parts if len(parts) > 1 else []


def _name(operation: _Operation) -> str:
    match operation:
        case _Parameters(values):
            return f"parameter {next(iter(values))}"
        case _Points(points):
            return f"metric {points[0].key}"
        case _Artifact(path):
            return f"file {path}"
    return operation.kind


def _record(operation: _Operation, run_id: str | None) -> str:
    """One line of the backlog file; strict JSON, so NaN and infinities are written as strings."""
    content = asdict(operation)
    for point in content.get("points", []):
        if not math.isfinite(point["value"]):
            point["value"] = str(point["value"])
    if isinstance(operation, _Start):
        content["run"]["parameters"] = _format_parameters(operation.run.parameters)
    return json.dumps({"operation": operation.kind, "run_id": run_id, **content})


def _parameter_batches(parameters: Mapping[str, object]) -> list[_Parameters]:
    items = list(_format_parameters(parameters).items())
    size = _PARAMETERS_PER_BATCH
    return [_Parameters(dict(items[first : first + size])) for first in range(0, len(items), size)]


def _format_parameters(parameters: Mapping[str, object]) -> dict[str, str]:
    return {key: _clip(redact(str(value)), _PARAMETER_LENGTH) for key, value in parameters.items()}


def _format_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _clip(redact(value), _TAG_LENGTH) for key, value in tags.items()}


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command in `folder`; empty when git is missing, fails, or takes too long."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
