"""The trials of a population, without runs: the lineage is the same whoever runs them, and in whatever order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from study_parts import SPACE, Instant, Silent, settings

from ppolab.errors import ConfigError, SweepError
from ppolab.study.claims import OWNER, Claim
from ppolab.study.lineage import draw_lineage
from ppolab.study.member_runs import lineage_in_words
from ppolab.study.plots import plot_names
from ppolab.study.population import Population
from ppolab.study.population_trials import PopulationTrials, ended_by_generation, segment_of
from ppolab.study.run_study import open_study
from ppolab.study.storage import open_storage
from ppolab.study.study_note import best_trials, study_note
from ppolab.study.sweep_loop import Job, Outcome, Sweep

SIZE, GENERATIONS = 5, 4


def in_population(**changes: Any) -> Any:
    values = {"size": SIZE, "interval": 100, "total_steps": 400, "quantile": 0.4, "resample": 0.25, "seed": 0}
    population = Population(**(values | changes))
    return settings(population=population, n_trials=population.size * population.generations)


def score(job: Job) -> tuple[float, ...]:
    """Best at clip = 0.2, higher in later generations."""
    clip, segment = job.claim.values["clip"], job.claim.segment
    assert isinstance(clip, float)
    assert segment is not None
    return (segment.generation - abs(clip - 0.2),)


class Shuffled(Instant):
    """Its runs end in a random order, each in a folder of its own; some processes are killed."""

    def __init__(self, seed: int, capacity: int, deaths: float = 0.0) -> None:
        super().__init__(score, capacity)
        self._random = random.Random(seed)
        self._deaths = deaths

    def wait(self, seconds: float) -> Sequence[Outcome]:
        if not self._under_way:
            return []
        job = self._under_way.pop(self._random.randrange(len(self._under_way)))
        if self._random.random() < self._deaths and not job.claim.again:
            return [Outcome(job, "failed", error="the process ended with signal SIGKILL", died=True)]
        return [Outcome(job, "complete", self.function(job), folder=f"run-{job.claim.name}")]


def opened(folder: Path, **changes: Any) -> tuple[PopulationTrials, optuna.Study]:
    chosen = in_population(**changes)
    storage = open_storage(None, "s", folder)
    study = open_study(chosen, SPACE, storage)
    return PopulationTrials(study, storage, SPACE, chosen.population), study


def run(folder: Path, runner: Instant, **changes: Any) -> optuna.Study:
    trials, study = opened(folder, **changes)
    Sweep(in_population(**changes), trials, runner, Silent(), lambda: False).run()
    return study


def lineage(study: optuna.Study) -> Mapping[tuple[int, int], Any]:
    """By generation and member: settings, score, and where it comes from."""
    places = {trial.number: segment_of(trial) for trial in study.trials}
    found = {}
    for trial in study.trials:
        segment = places[trial.number]
        parent = None if segment.parent is None else places[segment.parent]
        origin = parent and (parent.generation, parent.member)
        found[segment.generation, segment.member] = (trial.params, trial.values, origin, segment.copied_from)
    assert len(found) == len(study.trials)
    return found


def test_the_lineage_depends_on_scores_alone(tmp_path: Path) -> None:
    alone = lineage(run(tmp_path / "alone", Shuffled(0, capacity=1)))
    assert len(alone) == SIZE * GENERATIONS
    assert any(copied is not None for *_, copied in alone.values())
    for seed, capacity in ((1, 2), (2, 4), (3, 7)):
        assert lineage(run(tmp_path / str(seed), Shuffled(seed, capacity))) == alone


def test_a_killed_process_changes_nothing(tmp_path: Path) -> None:
    reference = lineage(run(tmp_path / "alone", Shuffled(0, capacity=1)))
    runner = Shuffled(4, capacity=3, deaths=0.5)
    assert lineage(run(tmp_path / "killed", runner)) == reference
    assert len(runner.started) > SIZE * GENERATIONS, "some ran again"


def test_a_member_whose_process_always_dies_fails_and_copies(tmp_path: Path) -> None:
    class Deadly(Shuffled):
        def wait(self, seconds: float) -> Sequence[Outcome]:
            job = self._under_way.pop(0)
            segment = job.claim.segment
            assert segment is not None
            if (segment.generation, segment.member) == (1, 0):
                return [Outcome(job, "failed", error="out of memory", died=True)]
            return [Outcome(job, "complete", score(job), folder=f"run-{job.claim.name}")]

    runner = Deadly(0, capacity=2)
    study = run(tmp_path, runner)
    assert sum(job.claim.segment == segment_of(study.trials[SIZE]) for job in runner.started) == 3
    states = {(segment_of(t).generation, segment_of(t).member): t.state for t in study.trials}
    assert [place for place, state in states.items() if state == TrialState.FAIL] == [(1, 0)]
    (after,) = [s for s in map(segment_of, study.trials) if (s.generation, s.member) == (2, 0)]
    assert after.copied_from is not None


def test_what_failed_by_itself_is_not_run_again(tmp_path: Path) -> None:
    def raises_for_one(job: Job) -> tuple[float, ...]:
        if job.claim.segment is not None and job.claim.segment.member == 1 and job.claim.segment.generation == 0:
            raise RuntimeError("diverged")
        return score(job)

    runner = Instant(raises_for_one)
    study = run(tmp_path, runner)
    assert len(runner.started) == SIZE * GENERATIONS
    assert sum(trial.state == TrialState.FAIL for trial in study.trials) == 1


def test_all_failing_ends_the_sweep(tmp_path: Path) -> None:
    def fail(job: Job) -> tuple[float, ...]:
        raise RuntimeError("diverged")

    trials, _ = opened(tmp_path)
    chosen = settings(population=in_population().population, n_trials=20, max_failures=100)
    with pytest.raises(SweepError, match="every member failed in generation 0"):
        Sweep(chosen, trials, Instant(fail), Silent(), lambda: False).run()


def test_a_trial_of_a_dead_process_is_claimed_whole(tmp_path: Path) -> None:
    trials, study = opened(tmp_path)
    first = trials.claim(20)
    assert isinstance(first, Claim)
    stored = study.trials[0]
    assert stored.user_attrs[OWNER]["pid"]
    study._storage.set_trial_user_attr(stored._trial_id, OWNER, {"host": "x", "pid": 1, "started": 0.0})
    assert isinstance(trials.claim(20), Claim), "another machine's may be alive"
    owner = {**first_owner(study, 1), "pid": 2**22 + 1}
    study._storage.set_trial_user_attr(stored._trial_id, OWNER, owner)
    again = trials.claim(20)
    assert isinstance(again, Claim)
    assert (again.number, again.again, again.segment, again.values) == (0, True, first.segment, first.values)


def first_owner(study: optuna.Study, number: int) -> dict[str, Any]:
    owner: dict[str, Any] = study.trials[number].user_attrs[OWNER]
    return owner


def test_workers_wait_only_for_what_is_not_certain(tmp_path: Path) -> None:
    trials, study = opened(tmp_path)
    claims = [trials.claim(20) for _ in range(SIZE)]
    assert trials.claim(20) == "later"
    for place, claim in enumerate(claims[:3]):
        assert isinstance(claim, Claim)
        trials.complete(claim, [float(place)], {"folders": [f"run-{place}"]})
    third = trials.claim(20)
    assert isinstance(third, Claim)
    assert third.segment is not None
    assert (third.segment.member, third.segment.generation) == (2, 1), "it has outdone two of five already"
    assert trials.claim(20) == "later"
    assert len(study.trials) == SIZE + 1


def test_to_minimize_turns_the_order_round(tmp_path: Path) -> None:
    chosen = settings(population=in_population().population, n_trials=20, directions=("minimize",))
    storage = open_storage(None, "s", tmp_path)
    study = open_study(chosen, SPACE, storage)
    assert chosen.population is not None
    trials = PopulationTrials(study, storage, SPACE, chosen.population)
    for value in range(SIZE):
        claim = trials.claim(20)
        assert isinstance(claim, Claim)
        trials.complete(claim, [float(value)], {"folders": ["f"]})
    scores = ended_by_generation(study.trials, study)[0]
    assert max(scores, key=lambda member: scores[member].score) == 0


@pytest.mark.parametrize("change", [{"size": 4}, {"interval": 80}, {"quantile": 0.2}, {"resample": 0.5}, {"seed": 3}])
def test_another_population_is_another_study(change: Mapping[str, Any], tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ConfigError, match="exists with another"):
        opened(tmp_path, **change)


# --- what is told of it ----------------------------------------------------------------------------------------------


def test_the_best_is_one_of_the_latest_generation(tmp_path: Path) -> None:
    study = run(tmp_path, Shuffled(0, 2))
    chosen = in_population()
    (best,) = best_trials(study, chosen)
    last = [trial for trial in study.trials if segment_of(trial).generation == GENERATIONS - 1]
    assert best.value == max(trial.value for trial in last if trial.value is not None)
    note = study_note(study, chosen, SPACE)
    assert f"member {segment_of(best).member} after 400 of 400 steps" in note
    assert "population based training with 5 members, compared every 100 steps" in note
    assert f"run-{segment_of(best).name}" in note


def test_the_lineage_is_drawn_and_told(tmp_path: Path) -> None:
    study = run(tmp_path, Shuffled(0, 2))
    chosen = in_population()
    assert plot_names(study, chosen) == ["lineage"]
    assert draw_lineage(study, chosen, tmp_path / "lineage.png").stat().st_size > 5000
    copied = next(segment for segment in map(segment_of, study.trials) if segment.copied_from is not None)
    own = [trial for trial in study.trials if segment_of(trial).member == copied.member]
    assert f"generation {copied.generation}: copy of member {copied.copied_from}" in lineage_in_words(own)
    first = [trial for trial in own if segment_of(trial).generation == 0]
    assert lineage_in_words(first) == "its own since generation 0"
