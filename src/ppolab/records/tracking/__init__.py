"""Runs, metrics and files in MLflow, written by a background thread.

The training thread appends to a queue and never waits. One daemon thread imports MLflow, opens the run, and
sends what is queued in order: metrics in batches, files one by one. While the store is away the queue grows
and the thread tries again; every operation may be repeated safely, so an answer that was lost on the way back
costs nothing. What could not be sent when the run ends is written to a JSON-lines file.

Only `client.py`, `mlflow_store.py`, `stored_runs.py` and `registry.py` import MLflow, and inside functions: the
import takes seconds that neither `--help` nor a mistyped key should cost.
"""

from ppolab.records.tracking.links import experiment_link, page_rows
from ppolab.records.tracking.mlflow_store import record_run
from ppolab.records.tracking.noted import NotedTracker
from ppolab.records.tracking.operations import CloseReport, RunDescription, RunStatus, StoredRun
from ppolab.records.tracking.registry import PolicyModel, register_policy
from ppolab.records.tracking.relay import RelayedTracker, TrackingRelay
from ppolab.records.tracking.stored_runs import (
    StoreReader,
    add_evaluation,
    end_abandoned_runs,
    find_run_artifacts,
    registered_run,
)
from ppolab.records.tracking.tags import KIND_TAG, MEMBER, NOTE_TAG, SEGMENT, environment_tags
from ppolab.records.tracking.tracker import MlflowTracker, NoTracker, Tracker
from ppolab.records.tracking.unsent import unsent_runs
from ppolab.records.tracking.uri import is_database, resolve_tracking_uri, sqlite_path, ui_command
from ppolab.redaction import redact

__all__ = [
    "KIND_TAG",
    "MEMBER",
    "NOTE_TAG",
    "SEGMENT",
    "CloseReport",
    "MlflowTracker",
    "NoTracker",
    "NotedTracker",
    "PolicyModel",
    "RelayedTracker",
    "RunDescription",
    "RunStatus",
    "StoreReader",
    "StoredRun",
    "Tracker",
    "TrackingRelay",
    "add_evaluation",
    "end_abandoned_runs",
    "environment_tags",
    "experiment_link",
    "find_run_artifacts",
    "is_database",
    "page_rows",
    "record_run",
    "redact",
    "register_policy",
    "registered_run",
    "resolve_tracking_uri",
    "sqlite_path",
    "ui_command",
    "unsent_runs",
]
