"""Find the page of an experiment in MLflow's UI."""

from __future__ import annotations

from collections.abc import Mapping

from ppolab.records.tracking.stored_runs import StoreReader
from ppolab.redaction import redact

HOST, PORT = "127.0.0.1", 5000
"""Where `mlflow ui` listens for a store that is a database."""


def experiment_link(tracking_uri: str, experiment: str) -> str | None:
    """Return the address of an experiment's table of runs, or None if the store has no such experiment.

    MLflow opens a page for language models unless the address asks for the one of training runs. Takes a second where
    MLflow was not imported yet.

    Raises:
        TrackingError: there is no such store, or it does not answer.
    """
    return experiment_links(tracking_uri).get(experiment)


def experiment_links(tracking_uri: str) -> Mapping[str, str]:
    """Return the addresses of all experiments by name; raise what `experiment_link` raises."""
    is_server = tracking_uri.startswith(("http://", "https://"))
    base = redact(tracking_uri).rstrip("/") if is_server else f"http://{HOST}:{PORT}"
    return {
        name: f"{base}/#/experiments/{number}/runs?workflowType=machine_learning"
        for name, number in StoreReader(tracking_uri).experiment_ids().items()
    }
