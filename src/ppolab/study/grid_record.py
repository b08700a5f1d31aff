"""Record a grid: a tracking run with the grid's runs below it, and what it came to."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppolab.config.metrics import objective_names
from ppolab.errors import TrackingError
from ppolab.records.run_folder import GRID_RECORD, write_whole
from ppolab.records.tracking import (
    KIND_TAG,
    NOTE_TAG,
    MlflowTracker,
    NoTracker,
    RunDescription,
    RunStatus,
    Tracker,
    TrackingRelay,
    end_abandoned_runs,
    environment_tags,
    page_rows,
    unsent_runs,
)
from ppolab.records.tracking.operations import PARENT_TAG
from ppolab.records.wording import command_with, next_command, shown
from ppolab.runtime.signals import given_up_after
from ppolab.study.grid import GridJob
from ppolab.study.store import PATIENCE_SECONDS, Store
from ppolab.training.trial import COMMAND_ALONE, grid_run


@dataclass(frozen=True)
class Grid:
    """Describe a grid.

    Attributes:
        fixed: settings of all runs, as `key=value`. varied: the values of each setting that is varied.
        direction: of the first objective, `maximize` or `minimize`.
    """

    folder: Path
    jobs: Sequence[GridJob]
    fixed: Sequence[str]
    varied: Mapping[str, Sequence[str]]
    direction: str

    @property
    def objective(self) -> str:
        """The metric by which the best run is chosen."""
        return objective_names(self.jobs[0].config)[0]


@dataclass(frozen=True)
class GridResult:
    """Hold what became of a grid. `values`: the objectives of the runs that are done, by number. `failed`: numbers."""

    grid: Grid
    values: Mapping[int, tuple[float, ...]]
    failed: Sequence[int]

    @property
    def best(self) -> Sequence[GridJob]:
        """The runs with the best value of the first objective; none where no run measured it."""
        found = {number: values[0] for number, values in self.values.items() if not math.isnan(values[0])}
        if not found:
            return []
        best = (min if self.grid.direction == "minimize" else max)(found.values())
        return [job for job in self.grid.jobs if found.get(job.number) == best]

    @property
    def summary(self) -> str:
        """The closing lines for the terminal."""
        grid, ended = self.grid, {"complete": len(self.values), "failed": len(self.failed)}
        counts = ", ".join(f"{count} {end}" for end, count in ended.items() if count)
        lines = [f"grid          {grid.folder}: {counts}"]
        if self.best:
            first, others = self.best[0], len(self.best) - 1
            equal = f" (and {others} more with this value)" if others else ""
            lines.append(f"best          {grid.objective} {shown(self.values[first.number][0])}  {first.name}{equal}")
            lines.append(f"evaluate it   {next_command('evaluate', 'run', first.folder.path)}")
        return "\n".join(lines)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the grid's tracking run."""
        counts = {"runs/finished": float(len(self.values)), "runs/failed": float(len(self.failed))}
        if not self.best:
            return counts
        return counts | {f"best/{self.grid.objective}": self.values[self.best[0].number][0]}

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the grid's tracking run: its best run, and the description."""
        of_best = {"best.run": self.best[0].name, **_plain("best", self.best[0].varied)} if self.best else {}
        return {NOTE_TAG: "\n".join(f"    {line}" for line in self.summary.splitlines()), **of_best}


class GridRecord:
    """Record a grid in the tracking store. `store` None: nowhere."""

    def __init__(self, grid: Grid, store: Store | None) -> None:
        self._grid = grid
        self._store = store
        self._tracker: Tracker = NoTracker()
        self._relay = TrackingRelay()
        self._run_id: str | None = None

    def open(self) -> None:
        """Make the grid's tracking run, or go on with the one that an earlier command has made."""
        if self._store is None:
            return
        grid, earlier = self._grid, self._stored_id()
        if earlier is not None:
            self._end_abandoned(earlier)
        listed = {"objective": grid.objective, "jobs": len(grid.jobs), "fixed": " ".join(grid.fixed)}
        description = RunDescription(
            experiment=self._store.experiment,
            run_name=grid.folder.name,
            parameters=listed | _plain("varied", {key: ", ".join(values) for key, values in grid.varied.items()}),
            tags=environment_tags() | {"grid": str(grid.folder), KIND_TAG: "grid"},
            resume_run_id=earlier,
        )
        self._tracker = MlflowTracker(description, self._store.uri, grid.folder / "tracking_backlog.jsonl")
        self._run_id = self._tracker.wait_for_id(PATIENCE_SECONDS) or earlier
        if self._run_id not in (None, earlier):
            write_whole(self._file, json.dumps({"mlflow_run": self._run_id}) + "\n")

    def send_again(self, jobs: Sequence[GridJob]) -> None:
        """Begin to send what the store may lack of runs that are done."""
        if self._store is None:
            return
        done = {job.folder.path for job in jobs}
        lacking = [folder for folder in unsent_runs(self._grid.folder) if folder in done]
        self._relay.send_again(lacking, self._store.uri, self._tracker)

    def reference(self, job: GridJob) -> str:
        """Return what a run of the grid is told of it, for the environment variable."""
        tags = {
            "grid": str(self._grid.folder),
            "grid.job": str(job.number),
            COMMAND_ALONE: command_with("train", job.settings),
        }
        return grid_run(job.name, tags, self._run_id)

    @property
    def page_lines(self) -> str:
        """What a summary says of the grid's page in MLflow; empty without a store."""
        rows = page_rows(self._tracker.page, self._store.uri) if self._store else []
        return "\n".join(f"{name:<13} {text}" for name, text in rows)

    def close(self, result: GridResult, status: RunStatus) -> None:
        """Record what the grid came to, and end its tracking run."""
        self._tracker.log_metrics(result.metrics, len(result.values))
        self._tracker.set_tags(result.tags)
        with given_up_after(self._give_up):
            self._relay.close()
            self._tracker.close(status)

    def _give_up(self) -> None:
        self._relay.give_up()
        self._tracker.give_up()

    def _end_abandoned(self, run_id: str) -> None:
        """Mark runs as ended whose processes were killed and could not say so themselves."""
        assert self._store is not None
        with contextlib.suppress(TrackingError):  # the tracker tells of a store that does not answer
            end_abandoned_runs(self._store.uri, self._store.experiment, {PARENT_TAG: run_id})

    @property
    def _file(self) -> Path:
        return self._grid.folder / GRID_RECORD

    def _stored_id(self) -> str | None:
        try:
            content = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return None
        found = content.get("mlflow_run") if isinstance(content, dict) else None
        return str(found) if found else None


def _plain(prefix: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Return them with a prefix, and without the sign that Hydra wants before a setting that is not there yet."""
    return {f"{prefix}.{key.lstrip('+')}": value for key, value in settings.items()}
