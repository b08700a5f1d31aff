"""Make a report: collect runs, compute, write files, and keep the report in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppolab.errors import ConfigError
from ppolab.records.run_folder import OUTPUTS
from ppolab.records.tracking import (
    KIND_TAG,
    NOTE_TAG,
    MlflowTracker,
    RunDescription,
    StoreReader,
    environment_tags,
    page_rows,
    redact,
    resolve_tracking_uri,
    sqlite_path,
)
from ppolab.reports.settings import ReportConfig, check

SENDING_SECONDS = 60.0
KEPT = ("metric", "curve", "compare", "seed", "baseline", "normalize", "bootstrap", "confidence", "selection")
"""Settings of a report that become parameters of its run."""


@dataclass(frozen=True)
class Report:
    """Hold what a report has written.

    Attributes:
        text: the closing lines for the terminal: tables, and where the files are.
        folder: of the files. files: the report as Markdown first, then tables as CSV, then pictures.
    """

    text: str
    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return self.text


def make_report(settings: ReportConfig) -> Report:
    """Write the report that `settings` describe.

    Raises:
        ConfigError: a setting breaks a rule, or names something that does not exist.
    """
    check(settings)
    uri = resolve_tracking_uri(settings.tracking_uri, OUTPUTS, "tracking_uri")
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise ConfigError(
            f"tracking_uri={redact(uri)}: there is no such store; train first, or name another with tracking_uri="
        )
    from ppolab.reports.figures import PICTURES, draw
    from ppolab.reports.results import results_of
    from ppolab.reports.scores import collect  # with NumPy, for which a mistake should not wait
    from ppolab.reports.tables import MARKDOWN, markdown, write_csv

    reader = StoreReader(uri)
    found = collect(settings, reader)
    results = results_of(found, settings, lambda run: reader.history(run.run.run_id, settings.curve))
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:  # of an earlier report, which may have had more to show
        (folder / name).unlink(missing_ok=True)
    pictures = draw(settings, found, results, folder)
    text = markdown(settings, found, results, [picture.name for picture in pictures])
    (folder / MARKDOWN).write_text(text)
    files = [folder / MARKDOWN, *write_csv(folder, found, results), *pictures]
    lines = [*_shown(text), f"report        {folder / MARKDOWN}"]
    if settings.log_to_mlflow:
        experiment = max((run.run for run in found.runs), key=lambda run: run.started).experiment
        lines += _kept(settings, uri, experiment, [run.run.run_id for run in found.runs], files)
    return Report("\n".join(lines), folder, tuple(files))


def _shown(text: str) -> list[str]:
    """Return the report for the terminal: the part before the single tasks, without the pictures."""
    parts = text.partition("## Per task")[0].strip().split("\n\n")
    return [line for part in parts if not part.startswith("![") for line in (part, "")]


def _kept(
    settings: ReportConfig, uri: str, experiment: str, covered: Sequence[str], files: Sequence[Path]
) -> list[str]:
    """Make a run that holds the files; return lines on it, or one on why there is none."""
    description = RunDescription(
        experiment=experiment,
        run_name=f"report-{settings.name}",
        parameters={key: getattr(settings, key) for key in KEPT},
        tags={KIND_TAG: "report", NOTE_TAG: _note(settings, len(covered))}
        | environment_tags()
        | {"report": settings.name, "report.runs": " ".join(covered)},
    )
    tracker = MlflowTracker(description, uri, settings.folder / "tracking_backlog.jsonl")
    for file in files:
        tracker.log_artifact(file, "report")
    sent = tracker.close("FINISHED", SENDING_SECONDS)
    if sent.error:
        return [f"in MLflow     not kept: {sent.error}"]
    rows = [("in MLflow", f"run {sent.run_id}"), *page_rows(tracker.page, uri)]
    return [f"{name:<13} {text}" for name, text in rows]


def _note(settings: ReportConfig, runs: int) -> str:
    """Return the description of the report's run, in Markdown."""
    method = ", ".join(settings.compare) if settings.compare else "the settings in which runs on one task differ"
    return (
        f"Report **{settings.name}** on `{settings.metric}` of {runs} runs; a method is {method}.\n\n"
        "Tables and pictures are among the artifacts, in `report`; read `report.md` first. The tag `command` is how it "
        "was made, and `report.runs` lists the runs.\n"
    )
