"""Hand out the trials of a population: one for each member and generation, as soon as it is certain how it begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ppolab.errors import SweepError
from ppolab.study.claims import OWNER, Claim, SharedTrials
from ppolab.study.population import FAILED, Ended, MemberSegment, NoneLeft, Population, begins
from ppolab.study.search_space import Scalar, SearchSpace
from ppolab.study.storage import StudyStorage

FOLDERS = "folders"
"""User attribute of a trial that has ended: the folders of its runs."""


Later = Literal["later"]
"""No trial can begin before others have ended."""


class PopulationTrials(SharedTrials):
    """Hand out the trials of a population.

    A trial is stored together with its settings, its lineage and its owner, in one operation. So there is never a
    second one of the same member and generation, and what a killed process leaves is whole.

    Args:
        given: settings with which the first members begin.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: StudyStorage,
        space: SearchSpace,
        population: Population,
        given: Sequence[Mapping[str, Scalar]] = (),
    ) -> None:
        super().__init__(study, storage, space)
        self._population = population
        self._given = given

    def claim(self, n_trials: int) -> Claim | Later | None:
        """Return a trial whose process is gone, else a new one that is certain; None if all have begun.

        Raises:
            SweepError: all members failed in one generation.
        """
        with self._storage.lock():
            trials = self._study.get_trials(deepcopy=False)
            for lost in self._lost(trials):
                self._storage.optuna.set_trial_user_attr(lost._trial_id, OWNER, asdict(self._owner))
                self.show_life([lost._trial_id])
                return Claim(lost.number, lost._trial_id, lost.params, again=True, segment=segment_of(lost))
            if sum(trial.state != TrialState.WAITING for trial in trials) >= n_trials:
                return None
            found = self._next(trials)
            return "later" if found is None else self._begin(*found)

    def _next(self, trials: Sequence[FrozenTrial]) -> tuple[MemberSegment, dict[str, Scalar]] | None:
        """Return the first segment that has not begun and is certain, in the order of generations and members."""
        begun = {(segment.generation, segment.member) for segment in map(segment_of, trials)}
        ended = ended_by_generation(trials, self._study)
        for generation in range(self._population.generations):
            for member in range(self._population.size):
                if (generation, member) in begun:
                    continue
                earlier = ended[generation - 1]
                try:
                    found = begins(member, generation, earlier, self._space, self._population, self._given)
                except NoneLeft:
                    raise SweepError(
                        f"every member failed in generation {generation - 1}, so there is none to go on from; their "
                        "tracebacks are in the study and in their folders"
                    ) from None
                if found is not None:
                    return found
        return None

    def _begin(self, segment: MemberSegment, values: dict[str, Scalar]) -> Claim:
        attributes: dict[str, Any] = {**asdict(segment), OWNER: asdict(self._owner)}
        trial = create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions=self._space.distributions(),
            user_attrs=attributes,
        )
        storage = self._storage.optuna
        trial_id = storage.create_new_trial(self._study._study_id, template_trial=trial)
        self.show_life([trial_id])
        number = storage.get_trial_number_from_id(trial_id)
        return Claim(number, trial_id, values, again=False, segment=segment)


def segment_of(trial: FrozenTrial) -> MemberSegment:
    """Return what a trial of a population trains."""
    attributes = trial.user_attrs
    return MemberSegment(**{name: attributes[name] for name in MemberSegment.__dataclass_fields__})


def ended_by_generation(trials: Sequence[FrozenTrial], study: optuna.Study) -> Mapping[int, dict[int, Ended]]:
    """Return how members ended each generation, by generation and member, as far as they have."""
    found: defaultdict[int, dict[int, Ended]] = defaultdict(dict)
    sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
    for trial in trials:
        if not trial.state.is_finished():
            continue
        segment = segment_of(trial)
        complete = trial.state == TrialState.COMPLETE
        score = sign * trial.values[0] if complete else FAILED
        folder = (trial.user_attrs.get(FOLDERS) or [""])[-1]
        found[segment.generation][segment.member] = Ended(score, trial.number, folder, trial.params)
    return found
