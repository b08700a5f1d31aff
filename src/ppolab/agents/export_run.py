"""Export the policy of a stored run, as `src/export.py` does once its input is checked."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from ppolab.agents.export import ExportResult, export_policy
from ppolab.agents.export_formats import default_path
from ppolab.agents.registering import register, store_of
from ppolab.agents.trained_policy import TrainedPolicy, load_policy
from ppolab.config.checks import check_model_name
from ppolab.config.command_schema import ExportConfig
from ppolab.errors import ConfigError
from ppolab.records.run_folder import FoundRun
from ppolab.redaction import redact


def export_run(found: FoundRun, settings: ExportConfig, say: Callable[[str], None]) -> str:
    """Write the file that `settings` describe, and return the report; `say` is told what begins.

    Raises:
        ConfigError, ExportError, TrackingError: see `export_policy` and `register`.
    """
    if (settings.format == "mlflow") != (settings.name is not None):
        given = f"name={settings.name}: only" if settings.name else "format=mlflow: needs the registered model's name;"
        raise ConfigError(f"{given} {'goes with format=mlflow' if settings.name else 'add name=NAME'}")
    if settings.name:
        check_model_name("name", settings.name)
    trained = load_policy(found)
    path = Path(settings.path) if settings.path else default_path(found.folder.path, settings.format)
    lines = _report(trained, export_policy(trained, settings.format, path, say))
    if settings.name:
        say(f"registering   {settings.name}")
        version = register(trained, path, settings.name, store_of(found))
        lines += [
            f"registered    models:/{settings.name}/{version}",
            f"serve         {_serve_command(found, settings.name, version)}",
        ]
    return "\n".join(lines)


def _serve_command(found: FoundRun, name: str, version: str) -> str:
    model = shlex.quote(f"models:/{name}/{version}")
    store = shlex.quote(f"MLFLOW_TRACKING_URI={redact(store_of(found))}")
    return f"env {store} mlflow models serve --model-uri {model} --env-manager local"


def _report(trained: TrainedPolicy, result: ExportResult) -> list[str]:
    compared = "an action or a state" if trained.config.model.has_memory else "an action"
    return [
        f"{trained.config.env.id}, {trained.run.checkpoint} after {trained.steps:,} steps",
        f"file          {result.path}",
        f"compared      {result.observations:,} observations; greatest difference of {compared} "
        f"{result.greatest_difference:.3g}",
    ]
