"""Record the members of a population: each is a tracking run below the study's, with its segments below itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.records.run_progress import RETURNS
from ppolab.records.tracking import KIND_TAG, MEMBER, RunStatus, Tracker
from ppolab.study.population import Population, member_name
from ppolab.study.population_trials import FOLDERS, segment_of
from ppolab.study.settings import StudySettings

MakeRun = Callable[[str, Mapping[str, str], Mapping[str, str], str | None], Tracker]
"""(name, parameters, tags, id of the run to go on with or None) -> a run below the study's."""


class MemberRuns:
    """Record members as their segments end. Of several sweeps of one study, each adds what ended in it.

    Args:
        make: opens a tracking run.
    """

    def __init__(self, study: optuna.Study, settings: StudySettings, make: MakeRun) -> None:
        assert settings.population is not None
        self._study = study
        self._settings = settings
        self._population: Population = settings.population
        self._make = make
        self._trackers: list[Tracker] = []
        self._recorded: set[int] = set()

    def open(self) -> None:
        """Make a run for each member, or go on with those of an earlier sweep, which may lack its last records."""
        for member in range(self._population.size):
            parameters = {"member": str(member), "seed": str(self._settings.seed + member)}
            tags = {"study": self._settings.name, "member": str(member), KIND_TAG: MEMBER}
            self._trackers.append(self._make(member_name(member), parameters, tags, self._known(member)))
        self.update()

    def note_ids(self, patience: float) -> None:
        """Write the ids of the runs into the study, for later sweeps. It waits for the store."""
        for member, tracker in enumerate(self._trackers):
            run_id = tracker.wait_for_id(patience)
            if run_id is not None and run_id != self._known(member):
                self._study.set_user_attr(_attribute(member), run_id)

    def _known(self, member: int) -> str | None:
        found: str | None = self._study.user_attrs.get(_attribute(member))
        return found

    def tracker(self, member: int) -> Tracker:
        """Return the run of a member."""
        return self._trackers[member]

    def update(self) -> None:
        """Record the segments that have ended since the last call, here or elsewhere, in order."""
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]
        trials.sort(key=lambda trial: segment_of(trial).generation)
        new = [trial for trial in trials if trial.number not in self._recorded]
        self._recorded |= {trial.number for trial in new}
        for trial in new:
            self._record(trial)
        for member in {segment_of(trial).member for trial in new}:
            own = [trial for trial in trials if segment_of(trial).member == member]
            self._trackers[member].set_tags({"lineage": lineage_in_words(own)})

    def _record(self, trial: FrozenTrial) -> None:
        segment, tracker = segment_of(trial), self._trackers[segment_of(trial).member]
        shown = {*RETURNS, *self._settings.objectives}
        for folder in trial.user_attrs.get(FOLDERS, [])[-1:]:
            for row in read_metrics(RunFolder(Path(folder)).metrics):
                values = {key: value for key, value in row.items() if key in shown}
                if values:
                    tracker.log_metrics(values, int(row["step"]))
        numbers = {key: float(value) for key, value in trial.params.items() if isinstance(value, int | float)}
        tracker.log_metrics({f"setting/{key.lstrip('+')}": value for key, value in numbers.items()}, segment.until)

    def close(self, status: RunStatus) -> None:
        """End the runs of all members."""
        for tracker in self._trackers:
            tracker.close(status)

    def give_up(self) -> None:
        """End a wait for the store, see `Tracker.give_up`."""
        for tracker in self._trackers:
            tracker.give_up()


def _attribute(member: int) -> str:
    """Return the user attribute of a study that holds the tracking run of a member."""
    return f"mlflow_run {member_name(member)}"


def lineage_in_words(trials: Sequence[FrozenTrial]) -> str:
    """Return where a member comes from: the generations in which it went on as a copy, and of whom."""
    copies = [segment for segment in map(segment_of, trials) if segment.copied_from is not None]
    told = [f"generation {segment.generation}: copy of member {segment.copied_from}" for segment in copies]
    return "; ".join(told) or "its own since generation 0"
