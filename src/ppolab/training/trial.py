"""Tie a run to the sweep that it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

TRIAL = "PPOLAB_TRIAL"
"""Environment variable of the runs of a study; `ppolab.study.trial_process` writes and reads it."""


GRID_RUN = "PPOLAB_GRID_RUN"
"""Environment variable of the runs of a grid: name, tags and parent of the tracking run, as JSON."""
COMMAND_ALONE = "command.alone"
"""Tag of a run of a sweep: the command that trains this run alone. Its tag `command` is the sweep's."""


@dataclass(frozen=True)
class Segment:
    """Tell a run of a population which part of a member's training it is.

    Attributes:
        until: environment steps, those of earlier segments included, after which it ends.
        start: the checkpoint that it goes on from; None begins with untrained weights.
        copied: that is another member's, so that this run draws random numbers, and begins episodes, of its own.
    """

    until: int
    start: Path | None = None
    copied: bool = False


@dataclass(frozen=True)
class TrialOfStudy:
    """Tie a run to the trial of a study.

    Attributes:
        report: (step, objective so far) -> whether to stop, because others have done better. The step is the multiple
            of eval_interval that was passed: the same in every trial, and each at most once.
        run_name: of the tracking run. parent_run_id: the one that it belongs to. tags: further ones.
        records: to the sweep, which sends this run's records to the store; None: this process does.
        segment: the part of a member's training that this run is; None: it is a whole run.
    """

    report: Callable[[int, float], bool]
    run_name: str
    parent_run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    records: Connection | None = None
    segment: Segment | None = None


def grid_run(name: str, tags: Mapping[str, str], parent_run_id: str | None) -> str:
    """Return the text for the environment variable GRID_RUN."""
    return json.dumps({"name": name, "tags": dict(tags), "parent": parent_run_id})


def run_of_grid() -> TrialOfStudy | None:
    """Return name, tags and parent of this process's run if it is one of a grid, which never stops it; else None."""
    text = os.environ.get(GRID_RUN)
    if text is None:
        return None
    content = json.loads(text)
    return TrialOfStudy(
        report=lambda _step, _value: False,
        run_name=content["name"],
        parent_run_id=content["parent"],
        tags=content["tags"],
    )
