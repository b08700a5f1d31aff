"""Record a run in one MLflow store."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ppolab.errors import TrackingError
from ppolab.records.tracking.client import connect, creation_lock, experiment_id, find_run
from ppolab.records.tracking.operations import (
    TAG_LENGTH,
    Artifact,
    Finish,
    Operation,
    Parameters,
    Points,
    RunDescription,
    Start,
    Tags,
    clip,
    parameter_batches,
)
from ppolab.records.tracking.uri import artifact_root
from ppolab.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

Importing = Callable[[], contextlib.AbstractContextManager[object]]
_UNKNOWN_ERROR_TRIES = 8
_RETRIED_CLIENT_ERRORS = (408, 425, 429)


class RunStore:
    """One run in the store `uri`. `send` blocks, raises what MLflow raises, and may be repeated."""

    def __init__(self, uri: str, importing: Importing = contextlib.nullcontext) -> None:
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._uri = uri
        self._importing = importing
        self._client: MlflowClient | None = None
        self._has_parameters = False
        self._logged: dict[str, int] = {}  # of a resumed run: the last step that each metric was logged at
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
                if not self._has_parameters:
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
        with self._importing():
            client = self._client = connect(self._uri)
        if run.resume_run_id is not None or run.tried_at is not None:
            earlier = self._earlier(client, run)
            if earlier is not None:
                logged = _last_steps(client, earlier)
                if run.shared_steps is None or max(logged.values(), default=0) <= run.shared_steps:
                    self._resume(client, run, earlier, logged)
                    return
                problem = f"went on with other settings after {run.shared_steps} steps"
            else:
                problem = f"is not in {redact(self._uri)}"
            if run.resume_run_id is not None:
                logger.warning("run %s %s: a new run is recorded there", run.resume_run_id, problem)
                run = replace(run, tags={**run.tags, "resumed_from": run.resume_run_id})
        self.run_id = self._create(client, run, start_time)

    def _earlier(self, client: MlflowClient, run: RunDescription) -> Run | None:
        """Return the run in the store that this one goes on with."""
        if run.resume_run_id is not None:
            return find_run(client, run.resume_run_id)
        experiment = client.get_experiment_by_name(run.experiment)
        return None if experiment is None else _begun_with(client, str(experiment.experiment_id), run.start_token)

    def _resume(self, client: MlflowClient, run: RunDescription, earlier: Run, logged: dict[str, int]) -> None:
        changed = {
            "parameters": _changed(earlier.data.params, run.stored_parameters()),
            "tags": _changed(earlier.data.tags, run.stored_tags()),
        }
        run_id = earlier.info.run_id
        self._logged = logged
        client.update_run(run_id, status="RUNNING")
        if run.tried_at is None:
            client.set_tag(run_id, "resumed_with", clip(json.dumps(changed), TAG_LENGTH))
        self._has_parameters = bool(earlier.data.params)
        self.experiment_id, self.run_id = earlier.info.experiment_id, run_id

    def _create(self, client: MlflowClient, run: RunDescription, start_time: int) -> str:
        with creation_lock(self._uri):
            experiment = self.experiment_id = experiment_id(client, run.experiment, artifact_root(self._uri))
        if self._start_tried:
            # An earlier try may have made the run although its answer never arrived.
            made = _begun_with(client, experiment, run.start_token)
            if made is not None:
                return str(made.info.run_id)
        self._start_tried = True
        tags = {**run.stored_tags(), "start_token": run.start_token}
        return str(client.create_run(experiment, start_time, tags, run.run_name).info.run_id)


def _begun_with(client: MlflowClient, experiment: str, start_token: str) -> Run | None:
    return next(iter(client.search_runs([experiment], f"tags.start_token = '{start_token}'", max_results=1)), None)


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
