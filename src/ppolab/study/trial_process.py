"""A trial as its own run sees it: where to report, and what it belongs to. Travels in an environment variable."""

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
from optuna.trial import Trial

from ppolab.config import TRIAL
from ppolab.study.settings import Pruning, make_pruner
from ppolab.study.storage import open_storage

if TYPE_CHECKING:
    from ppolab.services import TrialOfStudy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialReference:
    """Enough to find a trial again from another process or another machine.

    Attributes:
        storage: URL, or None for the file of the study `study` in `folder`.
        pruning: None where intermediate values are not wanted from runs: with several seeds, or several objectives.
        parent_run_id: the tracking run that this run is shown below. run_name: its own name there.
    """

    storage: str | None
    folder: str
    study: str
    number: int
    trial_id: int
    pruning: Pruning | None
    parent_run_id: str | None
    run_name: str

    def as_text(self) -> str:
        """For the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> TrialReference:
        """What `as_text` wrote."""
        content: dict[str, Any] = json.loads(text)
        pruning = content.pop("pruning")
        return cls(**content, pruning=None if pruning is None else Pruning(**pruning))


def trial_here() -> TrialOfStudy | None:
    """The trial that this process runs; None outside a study."""
    text = os.environ.get(TRIAL)
    if text is None:
        return None
    from ppolab.services import TrialOfStudy  # heavy; the sweep, which imports this module too, trains nothing

    reference = TrialReference.from_text(text)
    return TrialOfStudy(
        report=_never_stop if reference.pruning is None else reporter(reference, reference.pruning),
        run_name=reference.run_name,
        parent_run_id=reference.parent_run_id,
        tags={"study": reference.study, "trial": str(reference.number)},
    )


def _never_stop(_step: int, _value: float) -> bool:
    return False


def reporter(reference: TrialReference, pruning: Pruning) -> Callable[[int, float], bool]:
    """(step, value) -> whether to stop. Stores the value; a storage that does not answer stops nobody."""
    opened: list[optuna.Study] = []

    def report(step: int, value: float) -> bool:
        try:
            if not opened:
                opened.append(_study(reference, pruning))
            trial = Trial(opened[0], reference.trial_id)
            trial.storage.set_trial_intermediate_value(reference.trial_id, step, value)
            return bool(trial.should_prune())
        except Exception as error:  # the drivers' own families
            log.warning("the study did not take %g at step %d: %s", value, step, str(error).splitlines()[0])
            return False

    return report


def _study(reference: TrialReference, pruning: Pruning) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = open_storage(reference.storage, reference.study, Path(reference.folder))
        return optuna.load_study(study_name=reference.study, storage=storage.optuna, pruner=make_pruner(pruning))
