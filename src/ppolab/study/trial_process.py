"""Tell a run which trial it belongs to, and report its evaluations to the study.

The reference to the trial travels in an environment variable.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage

from ppolab.records.run_folder import RunFolder
from ppolab.records.tracking import KIND_TAG, SEGMENT
from ppolab.study.claims import report, trial_name
from ppolab.study.population import MemberSegment, lineage
from ppolab.study.settings import Pruning, make_pruner
from ppolab.study.storage import open_storage
from ppolab.training.trial import COMMAND_ALONE, TRIAL

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ppolab.training.trial import Segment, TrialOfStudy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialReference:
    """Identify a trial so that another process or another machine finds it.

    Attributes:
        storage: URL, or None for the file of the study `study` in `folder`.
        pruning: None where runs report no intermediate values: with several seeds, or several objectives.
        parent_run_id: the tracking run that this run is shown below. run_name: its own name there.
        command_alone: what a user types to train this run alone.
        segment: what of which member it trains, in a population; else None.
    """

    storage: str | None
    folder: str
    study: str
    number: int
    trial_id: int
    pruning: Pruning | None
    parent_run_id: str | None
    run_name: str
    command_alone: str
    segment: MemberSegment | None = None

    @property
    def kind(self) -> str:
        """What the run is in the tracking store: the whole trial, one seed of it, or a segment of a member."""
        if self.segment is not None:
            return SEGMENT
        return "trial" if self.run_name == trial_name(self.number) else "seed"

    def as_text(self) -> str:
        """Return the text for the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> TrialReference:
        """Return the reference that `as_text` wrote."""
        content: dict[str, Any] = json.loads(text)
        pruning, segment = content.pop("pruning"), content.pop("segment")
        return cls(
            **content,
            pruning=None if pruning is None else Pruning(**pruning),
            segment=None if segment is None else MemberSegment(**segment),
        )


def trial_here(records: Connection | None = None) -> TrialOfStudy | None:
    """Return the trial that this process runs; None outside a study. `records`: see `TrialOfStudy`."""
    text = os.environ.get(TRIAL)
    return None if text is None else trial_of(TrialReference.from_text(text), records)


def trial_of(reference: TrialReference, records: Connection | None = None) -> TrialOfStudy:
    """Return the trial that `reference` identifies. `records`: see `TrialOfStudy`."""
    from ppolab.training.trial import TrialOfStudy  # heavy; the sweep, which imports this module too, trains nothing

    return TrialOfStudy(
        report=_never_stop if reference.pruning is None else reporter(reference, reference.pruning),
        run_name=reference.run_name,
        parent_run_id=reference.parent_run_id,
        tags={
            "study": reference.study,
            "trial": str(reference.number),
            KIND_TAG: reference.kind,
            **({COMMAND_ALONE: reference.command_alone} if reference.segment is None else lineage(reference.segment)),
        },
        records=records,
        segment=None if reference.segment is None else _segment(reference.segment),
    )


def _segment(segment: MemberSegment) -> Segment:
    from ppolab.training.trial import Segment

    start = None if segment.folder is None else RunFolder(Path(segment.folder)).checkpoint("last")
    return Segment(segment.until, start, copied=segment.copied_from is not None)


def _never_stop(_step: int, _value: float) -> bool:
    return False


def reporter(reference: TrialReference, pruning: Pruning) -> Callable[[int, float], bool]:
    """Return a function (step, value) -> whether to stop, which stores the value in the study.

    Pruners compare trials at equal steps only. Steps must therefore be multiples of `pruning.first`, and where an
    iteration of a run was so long that it passed several of them, the value is stored at each: otherwise the trial
    would lack a step that others have. A storage that does not answer stops nobody.
    """
    opened: list[tuple[optuna.Study, BaseStorage]] = []
    reported = 0

    def report_evaluation(step: int, value: float) -> bool:
        nonlocal reported
        passed = [*range(reported + pruning.first, step, pruning.first), step]
        try:
            if not opened:
                opened.append(_study(reference, pruning))
            stopping = report(*opened[0], reference.trial_id, dict.fromkeys(passed, value))
        except Exception as error:  # the drivers' own families
            log.warning("the study did not take %g at step %d: %s", value, step, _first_line(error))
            return False
        reported = step
        return stopping

    return report_evaluation


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _study(reference: TrialReference, pruning: Pruning) -> tuple[optuna.Study, BaseStorage]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = open_storage(reference.storage, reference.study, Path(reference.folder)).optuna
        study = optuna.load_study(study_name=reference.study, storage=storage, pruner=make_pruner(pruning))
    return study, storage
