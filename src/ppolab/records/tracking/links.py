"""Find the pages of experiments and runs in MLflow's UI."""

from __future__ import annotations

from collections.abc import Mapping

from ppolab.records.tracking.saved_view import TAG, VIEW
from ppolab.records.tracking.stored_runs import StoreReader
from ppolab.records.tracking.uri import ui_command
from ppolab.redaction import redact

HOST, PORT = "127.0.0.1", 5000
"""Where `mlflow ui` listens for a store that is a database."""
TRAINING = "workflowType=machine_learning"
"""Without this, MLflow opens pages that are made for language models."""


def run_link(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page; credentials are replaced by ***. The store is not asked."""
    return f"{_base(tracking_uri)}/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def page_rows(page: str | None, tracking_uri: str | None) -> list[tuple[str, str]]:
    """Return what a summary says of a page in MLflow: its address, and the command that serves it, each with a name."""
    rows = [("page", page)] if page else []
    if tracking_uri and not (page and _is_server(tracking_uri)):
        rows.append(("served by", ui_command(tracking_uri)))
    return rows


def experiment_link(tracking_uri: str, experiment: str) -> str | None:
    """Return the address of an experiment's table of runs, or None if the store has no such experiment.

    Takes a second where MLflow was not imported yet.

    Raises:
        TrackingError: there is no such store, or it does not answer.
    """
    return experiment_links(tracking_uri).get(experiment)


def experiment_links(tracking_uri: str) -> Mapping[str, str]:
    """Return the addresses of all experiments by name; raise what `experiment_link` raises."""
    links = {}
    for found in StoreReader(tracking_uri).stored_experiments():
        view = f"&viewStateShareKey={VIEW}" if TAG in found.tags else ""
        links[found.name] = f"{_base(tracking_uri)}/#/experiments/{found.experiment_id}/runs?{TRAINING}{view}"
    return links


def _base(tracking_uri: str) -> str:
    return redact(tracking_uri).rstrip("/") if _is_server(tracking_uri) else f"http://{HOST}:{PORT}"


def _is_server(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))
