"""A trial as its own run sees it: where to report, and what it belongs to. Travels in an environment variable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import optuna
from optuna.trial import Trial

from ppolab.study.settings import StudySettings, make_pruner
from ppolab.study.storage import open_storage
from ppolab.study.trials import Owner

VARIABLE = "PPOLAB_TRIAL"


@dataclass(frozen=True)
class TrialReference:
    """Enough to find a trial again from another process or another machine.

    Attributes:
        storage: URL, or null for the file of the study `study` in `folder`. pruner: name and options.
        reports: whether intermediate values are wanted; not of several seeds, nor of several objectives.
    """

    storage: str | None
    folder: str
    study: str
    number: int
    trial_id: int
    reports: bool
    pruner: str
    pruner_options: dict[str, object]
    report_interval: int
    total_steps: int
    parent_run_id: str | None
    seed_index: int | None

    def as_text(self) -> str:
        """For the environment variable."""
        return json.dumps(asdict(self))


def trial_reference() -> TrialReference | None:
    """That of this process; None for a run outside a study."""
    text = os.environ.get(VARIABLE)
    return TrialReference(**json.loads(text)) if text else None
