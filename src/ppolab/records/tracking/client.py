"""Import MLflow, and open a store with its client: experiments and runs as they are there."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from typing import TYPE_CHECKING

from ppolab.records.tracking.saved_view import TAG, view_tag
from ppolab.records.tracking.uri import sqlite_path
from ppolab.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

_DATABASE_MODULES = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.artifact.local_artifact_repo",
    "sqlalchemy.dialects.sqlite",
    "alembic.config",
)
_LOCK_SECONDS = 60.0


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

    with creation_lock(uri):
        return MlflowClient(tracking_uri=uri)


def creation_lock(uri: str) -> contextlib.AbstractContextManager[object]:
    """Held while a local database or an experiment in it is made: MLflow's check-then-create races."""
    from filelock import FileLock

    database = sqlite_path(uri)
    if database is None:
        return contextlib.nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=_LOCK_SECONDS)


def experiment_id(client: MlflowClient, name: str, root: str | None) -> str:
    """Return the id of an experiment, made if it is not there yet; it gets its saved view if it has none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            made = str(client.create_experiment(name, artifact_location=root))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process may have been faster
            if found is None:
                raise
        else:
            _save_view(client, made)
            return made
    if TAG not in found.tags:
        _save_view(client, str(found.experiment_id))
    return str(found.experiment_id)


def _save_view(client: MlflowClient, experiment: str) -> None:
    """Save the view; a server that does not let this user change the experiment does without."""
    try:
        client.set_experiment_tag(experiment, TAG, view_tag())
    except Exception as error:  # the drivers' own families; a store that is gone fails at the next call as well
        logger.debug("the experiment has no saved view: %s", redact(str(error)))


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None
