"""Describe a run to its store: a description first, then operations in the order in which they are sent."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from ppolab.redaction import redact

RunStatus = Literal["FINISHED", "FAILED", "KILLED", "PRUNED"]
"""MLflow has no status for a pruned run: it is KILLED there, with the tag `ended` = `pruned`."""

# MLflow's own limits (mlflow.utils.validation); tags are kept to what older servers take.
METRICS_PER_BATCH = 1000
PARAMETERS_PER_BATCH = 100
PARAMETER_LENGTH = 6000
TAG_LENGTH = 5000
PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class RunDescription:
    """Hold what the store is told about a run: names, flattened configuration, tags.

    `resume_run_id` goes on with that run. Its parameters and tags stay as they are, since MLflow lets no
    parameter change; those that differ now are recorded in its tag `resumed_with`. A metric takes no second point at
    or before its last step: a resumed run makes those again that it had made since its checkpoint. If the store does
    not hold that run, a new one is made with the tag `resumed_from`. So it is if that run has points beyond the step
    `shared_steps`, after which the resumed run's numbers are others.
    `parent_run_id`: the run that this one is shown below. `start_token`: by which the store finds the run.
    `tried_at`: milliseconds since 1970 at which another process began this run in the store, or tried to and never
    heard of it; None: nobody did.
    """

    experiment: str
    run_name: str
    parameters: Mapping[str, object]
    tags: Mapping[str, str]
    resume_run_id: str | None = None
    shared_steps: int | None = None
    parent_run_id: str | None = None
    start_token: str = field(default_factory=lambda: uuid.uuid4().hex)
    tried_at: int | None = None

    def stored_parameters(self) -> dict[str, str]:
        """Return them as a store takes them: text without credentials, no longer than allowed."""
        return {key: clip(redact(str(value)), PARAMETER_LENGTH) for key, value in self.parameters.items()}

    def stored_tags(self) -> dict[str, str]:
        """Return them as a store takes them: text without credentials, no longer than allowed."""
        tags = dict(self.tags)
        if self.parent_run_id is not None:
            tags[PARENT_TAG] = self.parent_run_id
        return stored_tags(tags)


def stored_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return them as a store takes them: text without credentials, no longer than allowed."""
    return {key: clip(redact(value), TAG_LENGTH) for key, value in tags.items()}


@dataclass(frozen=True)
class CloseReport:
    """Say what became of a run's records: `unsent_*` count those the store did not get, `error` says why."""

    run_id: str | None
    unsent_metrics: int
    unsent_artifacts: int
    error: str | None


@dataclass(frozen=True)
class StoredRun:
    """A run as a store holds it.

    Attributes:
        status: MLflow's, or PRUNED. started: milliseconds since 1970. metrics: the last value of each.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: int
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def parent(self) -> str | None:
        """The run that this one is shown below."""
        return self.tags.get(PARENT_TAG)


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment as a store holds it."""

    experiment_id: str
    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Start:
    """Open the run; `start_time` in milliseconds since 1970, since a store may answer much later."""

    kind: ClassVar[str] = "start"
    run: RunDescription
    start_time: int


@dataclass(frozen=True)
class Parameters:
    """Log a batch of parameters."""

    kind: ClassVar[str] = "parameters"
    values: dict[str, str]


@dataclass(frozen=True)
class Point:
    """One value of one metric; `timestamp` in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class Points:
    """Log a batch of metrics; it grows until it is full or something else is queued after it."""

    kind: ClassVar[str] = "metrics"
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Artifact:
    """Upload a file or directory."""

    kind: ClassVar[str] = "artifact"
    path: str
    folder: str


@dataclass(frozen=True)
class Tags:
    """Set tags, in place of earlier ones of the same names."""

    kind: ClassVar[str] = "tags"
    values: dict[str, str]


@dataclass(frozen=True)
class Finish:
    """Mark the run as ended."""

    kind: ClassVar[str] = "finish"
    status: RunStatus
    end_time: int


Operation = Start | Parameters | Points | Artifact | Tags | Finish


def parameter_batches(run: RunDescription) -> list[Parameters]:
    """All parameters of `run`, in batches of the size that a store takes."""
    items, size = list(run.stored_parameters().items()), PARAMETERS_PER_BATCH
    return [Parameters(dict(items[first : first + size])) for first in range(0, len(items), size)]


def split(operation: Operation) -> list[Operation]:
    """The operation as one per metric or parameter name; empty if it holds a single name already."""
    parts: list[Operation] = []
    match operation:
        case Parameters(values):
            parts = [Parameters({key: value}) for key, value in values.items()]
        case Points(points):
            by_key: dict[str, list[Point]] = {}
            for point in points:
                by_key.setdefault(point.key, []).append(point)
            parts = [Points(group) for group in by_key.values()]
    return parts if len(parts) > 1 else []


def describe(operation: Operation) -> str:
    """Return what a message calls an operation that `split` cannot divide."""
    match operation:
        case Parameters(values):
            return f"parameter {next(iter(values))}"
        case Points(points):
            return f"metric {points[0].key}"
        case Artifact(path):
            return f"file {path}"
    return operation.kind


def backlog_line(operation: Operation, run_id: str | None) -> str:
    """One line of the backlog file; strict JSON, so NaN and infinities are written as strings."""
    content = asdict(operation)
    for point in content.get("points", []):
        if not math.isfinite(point["value"]):
            point["value"] = str(point["value"])
    if isinstance(operation, Start):
        content["run"]["parameters"] = operation.run.stored_parameters()
        content["run"]["tags"] = operation.run.stored_tags()
    return json.dumps({"operation": operation.kind, "run_id": run_id, **content}) + "\n"


def clip(text: str, length: int) -> str:
    """`text`, cut to `length` characters with a mark where it was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"
