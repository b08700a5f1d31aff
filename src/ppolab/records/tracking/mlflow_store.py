"""One run in one MLflow store, and what others find there."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ppolab.errors import TrackingError
from ppolab.records.tracking.operations import (
    TAG_LENGTH,
    Artifact,
    Finish,
    Operation,
    Parameters,
    Points,
    RunDescription,
    Start,
    StoredRun,
    Tags,
    clip,
    parameter_batches,
)
from ppolab.records.tracking.uri import artifact_root, sqlite_path
from ppolab.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

_CHECKPOINT_FOLDER = "checkpoints"
_CONFIG_FILE = "config.yaml"
_DATABASE_MODULES = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.artifact.local_artifact_repo",
    "sqlalchemy.dialects.sqlite",
    "alembic.config",
)
_LOCK_SECONDS = 60.0
_UNKNOWN_ERROR_TRIES = 8
_RUNS_PER_PAGE = 1000
_RETRIED_CLIENT_ERRORS = (408, 425, 429)


class RunStore:
    """One run in the store `uri`. `send` blocks, raises what MLflow raises, and may be repeated."""

    def __init__(self, uri: str) -> None:
        self.run_id: str | None = None
        self._uri = uri
        self._client: MlflowClient | None = None
        self._resumed = False
        self._logged: dict[str, int] = {}  # of a resumed run: the last step that each metric was logged at
        self._start_token = uuid.uuid4().hex
        self._start_tried = False

    def send(self, operation: Operation) -> None:
        """Carry out one operation."""
        if isinstance(operation, Start):
            self._open(operation.run, operation.start_time)
            return
        if self._client is None or self.run_id is None:
            raise RuntimeError("the run was never opened")
        from mlflow.entities import Metric, Param, RunTag

        client, run_id = self._client, self.run_id
        match operation:
            case Parameters(values):
                if not self._resumed:
                    client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])
            case Points(points):
                metrics = [
                    Metric(point.key, point.value, point.timestamp, point.step)
                    for point in points
                    if point.step > self._logged.get(point.key, -1)
                ]
                if metrics:
                    client.log_batch(run_id, metrics=metrics)
            case Artifact(path, folder):
                client.log_artifact(run_id, path, folder or None)
            case Tags(values):
                client.log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()])
            case Finish(status, end_time):
                if status == "PRUNED":
                    client.set_tag(run_id, "ended", "pruned")
                client.set_terminated(run_id, "KILLED" if status == "PRUNED" else status, end_time)

    def _open(self, run: RunDescription, start_time: int) -> None:
        client = self._client = connect(self._uri)
        if run.resume_run_id is not None:
            earlier = _find_run(client, run.resume_run_id)
            if earlier is not None:
                logged = _last_steps(client, earlier)
                if run.shared_steps is None or max(logged.values(), default=0) <= run.shared_steps:
                    self._resume(client, run, earlier, logged)
                    return
                problem = f"went on with other settings after {run.shared_steps} steps"
            else:
                problem = f"is not in {redact(self._uri)}"
            logger.warning("run %s %s: a new run is recorded there", run.resume_run_id, problem)
            run = replace(run, tags={**run.tags, "resumed_from": run.resume_run_id})
        self.run_id = self._create(client, run, start_time)

    def _resume(self, client: MlflowClient, run: RunDescription, earlier: Run, logged: dict[str, int]) -> None:
        changed = {
            "parameters": _changed(earlier.data.params, run.stored_parameters()),
            "tags": _changed(earlier.data.tags, run.stored_tags()),
        }
        run_id = earlier.info.run_id
        self._logged = logged
        client.update_run(run_id, status="RUNNING")
        client.set_tag(run_id, "resumed_with", clip(json.dumps(changed), TAG_LENGTH))
        self._resumed = True
        self.run_id = run_id

    def _create(self, client: MlflowClient, run: RunDescription, start_time: int) -> str:
        with _creation_lock(self._uri):
            experiment = _experiment_id(client, run.experiment, artifact_root(self._uri))
        if self._start_tried:
            # An earlier try may have made the run although its answer never arrived.
            made = client.search_runs([experiment], f"tags.start_token = '{self._start_token}'", max_results=1)
            if made:
                return str(made[0].info.run_id)
        self._start_tried = True
        tags = {**run.stored_tags(), "start_token": self._start_token}
        return str(client.create_run(experiment, start_time, tags, run.run_name).info.run_id)


def _last_steps(client: MlflowClient, run: Run) -> dict[str, int]:
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: max(int(metric.step) for metric in history) for key, history in histories.items()}


def _changed(then: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in now.items() if then.get(key) != value}


def record_run(uri: str, run: RunDescription) -> str:
    """Record a run that has ended, without metrics; returns its id.

    Raises:
        TrackingError: the store does not answer, or refuses the run.
    """
    store, now = RunStore(uri), time.time_ns() // 1_000_000
    operations: list[Operation] = [Start(run, now), *parameter_batches(run), Finish("FINISHED", now)]
    try:
        for operation in operations:
            store.send(operation)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TrackingError(redact(f"cannot record the run in {uri}: {reason}")) from None
    assert store.run_id is not None
    return store.run_id


def find_run_artifacts(uri: str, run_id: str, destination: Path) -> Path:
    """Download the artifacts `checkpoints` and `config.yaml` of a run into `destination`; return the first's folder.

    Raises:
        TrackingError: the store does not answer, or holds no such run, or the run has no checkpoints.
    """
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise TrackingError(f"no run {run_id}: there is no tracking store at {database}")
    try:
        client = connect(uri)
        if _find_run(client, run_id) is None:
            raise TrackingError(f"no run {run_id} in {redact(uri)}")
        if not client.list_artifacts(run_id, _CHECKPOINT_FOLDER):
            raise TrackingError(f"run {run_id} in {redact(uri)} has no artifact folder {_CHECKPOINT_FOLDER}")
        destination.mkdir(parents=True, exist_ok=True)
        if any(file.path == _CONFIG_FILE for file in client.list_artifacts(run_id)):
            client.download_artifacts(run_id, _CONFIG_FILE, str(destination))
        return Path(client.download_artifacts(run_id, _CHECKPOINT_FOLDER, str(destination)))
    except TrackingError:
        raise
    except Exception as error:
        # Not chained: the original text may hold the credentials of the URI.
        raise TrackingError(redact(f"cannot read run {run_id} from {uri}: {error}")) from None


def add_evaluation(uri: str, run_id: str, metrics: Mapping[str, float], step: int, files: Mapping[Path, str]) -> None:
    """Add metrics at `step` environment steps, and files, to a run that may have ended; its status stays as it is.

    Args:
        files: the folder among the run's artifacts that each goes to.

    Raises:
        TrackingError: the store does not answer, or holds no such run.
    """
    reader = StoreReader(uri)
    with reader.telling("add an evaluation to"):
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        reader.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])
        for path, folder in files.items():
            reader.client.log_artifact(run_id, str(path), folder)


def registered_run(uri: str, name: str, version: str | None, alias: str | None) -> str:
    """Return the id of the run that a version of a registered model was made from.

    Args:
        version, alias: one of them says which version.

    Raises:
        TrackingError: the registry does not answer, or has no such model, version or alias, or the version no run.
    """
    reader = StoreReader(uri)
    with reader.telling("read the registered models of"):
        from mlflow.exceptions import MlflowException

        try:
            model = reader.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = [each.name for each in reader.client.search_registered_models()]
            raise TrackingError(f"there is no model {name} in {redact(uri)}{_having(known)}") from None
        runs = {str(each.version): each.run_id for each in reader.client.search_model_versions(f"name={_quoted(name)}")}
        wanted = version if alias is None else model.aliases.get(alias)
        if wanted is None:
            raise TrackingError(f"the model {name} has no alias {alias}{_having(model.aliases)}")
        if str(wanted) not in runs:
            raise TrackingError(f"the model {name} has no version {wanted}{_having(sorted(runs, key=int))}")
    run_id = runs[str(wanted)]
    if not run_id:
        raise TrackingError(f"version {wanted} of the model {name} comes from no run")
    return str(run_id)


def _having(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"; it has {listed}" if listed else ""


def end_abandoned_runs(uri: str, experiment: str, tags: Mapping[str, str]) -> int:
    """Mark runs with these tags that still look alive as KILLED, because their processes are gone; returns how many.

    Raises:
        TrackingError: the store does not answer.
    """
    condition = " and ".join([f"tags.`{key}` = '{value}'" for key, value in tags.items()])
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(experiment)
        ids = [] if found is None else [found.experiment_id]
        runs = client.search_runs(ids, f"{condition} and attributes.status = 'RUNNING'") if ids else []
        for run in runs:
            client.set_terminated(run.info.run_id, "KILLED")
    except Exception as error:
        raise TrackingError(redact(f"cannot end runs in {uri}: {error}")) from None
    return len(runs)


class StoreReader:
    """Reads the runs of the store `uri`, and changes nothing there.

    Raises:
        TrackingError: there is no such store, or it does not answer; so do the methods.
    """

    def __init__(self, uri: str) -> None:
        database = sqlite_path(uri)
        if database is not None and not database.exists():
            raise TrackingError(f"there is no tracking store at {database}")
        self._uri = uri
        with self.telling("open"):
            self.client = connect(uri)

    def experiments(self) -> list[str]:
        """The names of all experiments."""
        with self.telling("read the experiments of"):
            return sorted(self._experiments().values())

    def experiment_ids(self) -> dict[str, str]:
        """Return the ids of all experiments, by name."""
        with self.telling("read the experiments of"):
            return {name: number for number, name in sorted(self._experiments().items())}

    def runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[StoredRun]:
        """The runs of one experiment, or of all, that have these tags; newest first."""
        condition = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
        with self.telling("read the runs of"):
            names = {key: name for key, name in self._experiments().items() if experiment in (None, name)}
            found, token = [], None
            while names:
                page = self.client.search_runs(list(names), condition, max_results=_RUNS_PER_PAGE, page_token=token)
                found += [_stored(run, names[run.info.experiment_id]) for run in page]
                token = page.token
                if not token:
                    break
        return sorted(found, key=lambda run: run.started, reverse=True)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Every (step, value) of a metric, by step; of a step that is there twice, what was logged last."""
        with self.telling(f"read {metric} of run {run_id} from"):
            points = self.client.get_metric_history(run_id, metric)
        return sorted({int(p.step): float(p.value) for p in sorted(points, key=lambda p: p.timestamp)}.items())

    def _experiments(self) -> dict[str, str]:
        return {found.experiment_id: found.name for found in self.client.search_experiments()}

    @contextlib.contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Answer what the store raises inside the block with a TrackingError of one line."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            # Not chained: the original text may hold the credentials of the URI.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TrackingError(redact(f"cannot {what} {self._uri}: {reason}")) from None


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _stored(run: Run, experiment: str) -> StoredRun:
    pruned = run.data.tags.get("ended") == "pruned"
    return StoredRun(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        experiment=experiment,
        status="PRUNED" if pruned else run.info.status,
        started=int(run.info.start_time or 0),
        parameters=dict(run.data.params),
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
    )


def is_permanent(error: Exception, failures: int) -> bool:
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


def import_mlflow() -> None:
    """Import MLflow and what its client needs, quietly; a second call does nothing."""
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
    from mlflow import MlflowClient  # noqa: F401


def import_mlflow_database() -> None:
    """`import_mlflow`, and what it imports as soon as a database is opened."""
    import_mlflow()
    for name in _DATABASE_MODULES:
        importlib.import_module(name)


def connect(uri: str) -> MlflowClient:
    """A client of the store; makes the database if it is a local one that is not there yet."""
    import_mlflow()
    from mlflow import MlflowClient

    with _creation_lock(uri):
        return MlflowClient(tracking_uri=uri)


def _creation_lock(uri: str) -> contextlib.AbstractContextManager[object]:
    """Held while a local database or an experiment in it is made: MLflow's check-then-create races."""
    from filelock import FileLock

    database = sqlite_path(uri)
    if database is None:
        return contextlib.nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=_LOCK_SECONDS)


def _experiment_id(client: MlflowClient, name: str, root: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=root))
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
