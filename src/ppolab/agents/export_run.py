"""Export the policy of a stored run, as `src/export.py` does once its input is checked."""

from __future__ import annotations

from pathlib import Path

from ppolab.agents.export import ExportResult, export_policy
from ppolab.agents.export_formats import default_path
from ppolab.agents.trained_policy import TrainedPolicy, load_policy
from ppolab.config.schema import ExportConfig
from ppolab.records.run_folder import FoundRun


def export_run(found: FoundRun, settings: ExportConfig) -> str:
    """Write the file that `settings` describe, and return the report.

    Raises:
        ConfigError, ExportError: see `export_policy`.
    """
    trained = load_policy(found)
    path = Path(settings.path) if settings.path else default_path(found.folder.path, settings.format)
    return "\n".join(_report(trained, export_policy(trained, settings.format, path)))


def _report(trained: TrainedPolicy, result: ExportResult) -> list[str]:
    return [
        f"{trained.config.env.id}, {trained.run.checkpoint} after {trained.steps:,} steps",
        f"file          {result.path}",
        f"compared      {result.observations:,} observations; greatest difference of an action "
        f"{result.greatest_difference:.3g}",
    ]
