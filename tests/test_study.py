"""The sweep engine without Hydra: search spaces, storage, claims of trials, the loop, and what a study refuses."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hydra_plugins.hydra_ppolab._space import dimension, written
from ppolab.core.aggregate import interquartile_mean
from ppolab.errors import ConfigError, SweepError
from ppolab.study.child import TrialReference, reporter
from ppolab.study.engine import Job, Outcome, Sweep, TrialReport
from ppolab.study.run import StudyPlace, enqueued, open_study, run_study
from ppolab.study.settings import SAMPLERS, Pruning, StudySettings, make_pruner, make_sampler
from ppolab.study.space import Choice, Dimension, Interval, SearchSpace, distribution, overrides
from ppolab.study.storage import JournalLock, StudyStorage, open_storage
from ppolab.study.trials import Claim, Owner, Trials

optuna.logging.set_verbosity(optuna.logging.WARNING)
CLIP: dict[str, Dimension] = {"clip": Interval(0.05, 0.4)}
SPACE = SearchSpace(CLIP)


def settings(**changes: Any) -> StudySettings:
    defaults: dict[str, Any] = {
        "name": "s", "objectives": ("eval/return",), "directions": ("maximize",), "n_trials": 6, "timeout": None,
        "workers": 2, "seeds_per_trial": 1, "max_failures": 3, "seed": 0, "sampler": "random",
        "pruning": Pruning("none", 1, 5),
    }  # fmt: skip
    return StudySettings(**(defaults | changes))


# --- search spaces ---------------------------------------------------------------------------------------------------


def test_distributions() -> None:
    assert distribution(Interval(0.1, 0.5)) == FloatDistribution(0.1, 0.5)
    assert distribution(Interval(1e-5, 1e-2, log=True)) == FloatDistribution(1e-5, 1e-2, log=True)
    assert distribution(Interval(1, 9, integer=True, step=2)) == IntDistribution(1, 9, step=2)
    assert distribution(Choice(("a", "b"))) == CategoricalDistribution(("a", "b"))


def test_values_become_settings() -> None:
    values = {"clip": 0.1, "epochs": 3, "target_kl": "null", "normalize_rewards": True, "resume": None}
    assert overrides(values) == [
        "clip=0.1", "epochs=3", "target_kl=null", "normalize_rewards=true", "resume=null",
    ]  # fmt: skip


def test_a_range_may_run_downwards() -> None:
    override = OverridesParser.create().parse_override("epochs=range(10,1,-3)")
    assert dimension(override) == Interval(4.0, 10.0, integer=True, step=3.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (0.5, "0.5"), ("cartpole", "cartpole"), ("eval/return, time/total", None),
        ("it's \\ here", None), ([64, 32], "[64,32]"), ({"size": 3, "name": "a, b"}, "{size:3,name:'a, b'}"),
        ("", None), ("C:\\", None), ("\\'", None), ('{"a": "\\u00e9\\\\"}', None),
    ],
)  # fmt: skip
def test_any_value_can_be_written_as_an_override(value: object, text: str | None) -> None:
    """`text` None: only that Hydra reads back what was written."""
    parsed = OverridesParser.create().parse_override(f"key={written(value)}")
    assert parsed.value() == value
    assert text is None or written(value) == text


@pytest.mark.parametrize(
    ("dimensions", "told"),
    [
        ({}, "empty"),
        ({"clip": Interval(0.3, 0.1)}, "clip=interval(0.3,0.1)"),
        ({"optimizer.lr": Interval(0.0, 1.0, log=True)}, "above 0"),
        ({"env": Choice(())}, "env"),
    ],
)
def test_space_that_cannot_be_searched(dimensions: dict[str, Dimension], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(").replace(")", r"\)")):
        SearchSpace(dimensions).check()


def width(trial: optuna.Trial, values: dict[str, Any]) -> dict[str, Any]:
    if values["model"] == "wide":
        return {"model.hidden_sizes": f"[{trial.suggest_int('width', 128, 256)}]"}
    return {}


def test_condition_adds_what_depends_on_the_rest() -> None:
    space = SearchSpace({"model": Choice(("wide", "small"))}, f"{__name__}.width")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [space.suggest(study.ask()) for _ in range(20)]
    assert {len(values) for values in seen} == {1, 2}
    assert all(("model.hidden_sizes" in values) == (values["model"] == "wide") for values in seen)


def test_condition_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no such function"):
        SearchSpace({}, "nowhere.f").suggest(optuna.create_study().ask())


# --- samplers and pruners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_proposes_values_inside(name: str, tmp_path: Path) -> None:
    dimensions: dict[str, Dimension] = {"clip": Interval(0.1, 0.3, step=0.1), "epochs": Interval(1, 4, integer=True)}
    space = SearchSpace(dimensions)
    chosen = settings(sampler=name)
    storage = open_storage(None, "s", tmp_path)
    study = open_study(chosen, space, storage)
    trials = Trials(study, storage, space)
    for index in range(6):
        claim = trials.claim(6)
        assert claim is not None
        clip, epochs = claim.values["clip"], claim.values["epochs"]
        assert isinstance(clip, float)
        assert isinstance(epochs, int)
        assert 0.1 <= clip <= 0.3001
        assert 1 <= epochs <= 4
        trials.complete(claim, [float(index)], {})


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random", "qmc"])
def test_nobody_draws_what_somebody_else_has_drawn(name: str, tmp_path: Path) -> None:
    """Two sweeps that start together, and one that goes on after another was killed."""
    dimensions: dict[str, Dimension] = {"clip": Interval(0.1, 0.3), "gamma": Interval(0.9, 0.99)}
    space, drawn = SearchSpace(dimensions), []
    for _ in range(3):
        storage = open_storage(None, "s", tmp_path)
        study = open_study(settings(sampler=name), space, storage)
        for _ in range(2):
            claim = Trials(study, storage, space).claim(99)
            assert claim is not None
            drawn.append(claim.values["clip"])
    assert len(set(drawn)) == 6, drawn


@pytest.mark.parametrize(
    ("changes", "dimensions", "told"),
    [
        ({"sampler": "tep"}, CLIP, "sampler=tep.*'tpe'"),
        ({"sampler": "cmaes"}, {"a": Choice(("x", "y")), **CLIP}, "sampler=cmaes: a is a choice"),
        ({"sampler": "cmaes"}, CLIP, "two intervals"),
        ({"sampler": "grid"}, CLIP, "sampler=grid: clip=.*no finite number"),
        ({"sampler": "tpe", "sampler_options": {"n_startup": 3}}, CLIP, "sampler=tpe.*n_startup"),
    ],
)
def test_sampler_that_cannot(changes: dict[str, Any], dimensions: dict[str, Dimension], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_sampler(settings(**changes), SearchSpace(dimensions))


def test_pruners() -> None:
    assert isinstance(make_pruner(Pruning("median", 1, 5)), optuna.pruners.MedianPruner)
    with pytest.raises(ConfigError, match=r"pruner=median.*warmup"):
        make_pruner(Pruning("median", 1, 5, {"warmup": 3}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pruning": Pruning("medain", 1, 5)}, "pruner=medain.*'median'"),
        ({"pruning": Pruning("wilcoxon", 1, 5)}, "seeds_per_trial=2"),
        (
            {"pruning": Pruning("median", 1, 5), "objectives": ("a", "b"), "directions": ("maximize",) * 2},
            "several objectives",
        ),
        ({"n_trials": 0}, "n_trials=0: must be 1 or more"),
        ({"directions": ("up",)}, "direction=up"),
        ({"directions": ("maximize", "minimize")}, "needs one for each"),
        ({"enqueue": ({"clpi": 0.1},)}, "enqueue: clpi"),
        ({"enqueue": ({"clip": 0.9},)}, "clip=0.9 is not between"),
        ({"timeout": -1.0}, "timeout=-1: must be greater than 0"),
        ({"name": "a/b"}, "study_name=a/b"),
        ({"sampler": "tpe", "sampler_options": {"n_startup_trials": "foo"}}, "sampler=tpe with.*foo"),
        ({"pruning": Pruning("none", 1, 5, {"n_startup_trials": 1})}, "pruner.n_startup_trials: no pruner is chosen"),
        ({"pruning": Pruning("median", 1, 5, {"n_warmup_steps": "x"})}, "pruner=median with"),
    ],
)
def test_study_that_cannot_be(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run_study(settings(**changes), SPACE, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)


# --- storage ---------------------------------------------------------------------------------------------------------


def test_half_a_record_is_dropped(tmp_path: Path) -> None:
    storage = open_storage(None, "s", tmp_path)
    study = open_study(settings(), SPACE, storage)
    study.tell(study.ask(), 1.0)
    journal = tmp_path / "s.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id"')  # a writer that was killed
    study.tell(study.ask(), 2.0)
    again = open_study(settings(), SPACE, open_storage(None, "s", tmp_path))
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.touch()
    child = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(journal,))
    child.start()
    child.join()
    started = time.monotonic()
    lock = JournalLock(journal)
    assert lock.acquire()
    lock.release()
    assert time.monotonic() - started < 2


def _lock_and_die(journal: Path) -> None:
    JournalLock(journal).acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://host/db", "postgresql"),
        ("postgresql+psycopg2://user:secret@127.0.0.1:1/none", "cannot be opened|driver is missing"),
    ],
)
def test_storage_that_cannot_be_used(url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_storage(url, "s", tmp_path)
    assert "secret" not in str(caught.value)


# --- trials that processes share -------------------------------------------------------------------------------------


def opened(folder: Path, **changes: Any) -> tuple[Trials, optuna.Study, StudyStorage]:
    storage = open_storage(changes.pop("storage", None), "s", folder)
    study = open_study(settings(**changes), SPACE, storage)
    return Trials(study, storage, SPACE), study, storage


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_processes_together_run_exactly_as_many_trials(kind: str, tmp_path: Path) -> None:
    url = None if kind == "file" else f"sqlite:///{tmp_path}/study.db"
    opened(tmp_path, storage=url)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_take_all, args=(tmp_path, url)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    _, study, _ = opened(tmp_path, storage=url)
    assert [trial.number for trial in study.trials] == list(range(12))
    assert Counter(trial.state for trial in study.trials) == {TrialState.COMPLETE: 12}


def _take_all(folder: Path, url: str | None) -> None:
    trials, _, _ = opened(folder, storage=url)
    while (claim := trials.claim(12)) is not None:
        time.sleep(0.01)
        trials.complete(claim, [1.0], {})


def test_trial_of_a_dead_process_is_run_again_under_its_number(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_claim_and_die, args=(tmp_path,))
    child.start()
    child.join()
    trials, study, _ = opened(tmp_path)
    lost = study.trials[0]
    assert lost.state == TrialState.RUNNING
    claim = trials.claim(1)
    assert claim is not None
    assert (claim.number, claim.again, dict(claim.values)) == (0, True, lost.params)
    assert trials.claim(1) is None
    trials.complete(claim, [3.0], {})
    assert [trial.value for trial in study.trials] == [3.0]


def _claim_and_die(folder: Path) -> None:
    opened(folder)[0].claim(1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_trial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    first, _, _ = opened(tmp_path)
    second, _, _ = opened(tmp_path)
    assert first.claim(1) is not None
    assert second.claim(1) is None


def test_owner_knows_its_process() -> None:
    mine = Owner.of_this_process()
    assert not mine.is_gone()
    assert Owner(mine.host, mine.pid, mine.started + 1).is_gone(), "another process with the same number"
    assert not Owner("elsewhere", mine.pid, 0).is_gone(), "cannot be known"


# --- the loop --------------------------------------------------------------------------------------------------------


def score(job: Job) -> tuple[float, ...]:
    """Best at clip = 0.2; the seeds differ a little."""
    clip = job.claim.values["clip"]
    assert isinstance(clip, float)
    return (-abs(clip - 0.2) + 0.001 * job.seed_index,)


class Instant:
    """A runner whose runs end at once, in the order of their start, or never for a stop."""

    def __init__(self, function: Callable[[Job], tuple[float, ...]], capacity: int = 2) -> None:
        self.capacity = capacity
        self.function = function
        self.started: list[Job] = []
        self.most = 0
        self._under_way: list[Job] = []

    def start(self, job: Job) -> None:
        self.started.append(job)
        self._under_way.append(job)
        self.most = max(self.most, len(self._under_way))

    def wait(self, seconds: float) -> Sequence[Outcome]:
        job = self._under_way.pop(0)
        try:
            return [Outcome(job, "complete", self.function(job))]
        except RuntimeError as error:
            return [Outcome(job, "failed", error=f"Traceback\nRuntimeError: {error}")]

    def stop(self) -> Sequence[Outcome]:
        ended, self._under_way = self._under_way, []
        return [Outcome(job, "interrupted") for job in ended]


class Silent:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[TrialReport] = []

    def begin(self, claim: Claim) -> str | None:
        return f"run-{claim.number}"

    def end(self, report: TrialReport) -> None:
        self.reports.append(report)


def sweep(
    folder: Path, runner: Instant, stopping: Callable[[], bool] = lambda: False, **changes: Any
) -> tuple[optuna.Study, Silent]:
    trials, study, _ = opened(folder, **changes)
    record = Silent()
    Sweep(settings(**changes), trials, runner, record, stopping).run()
    return study, record


def test_a_study_runs_its_trials_and_finds_the_best(tmp_path: Path) -> None:
    runner = Instant(score)
    study, record = sweep(tmp_path, runner, n_trials=30)
    assert len(study.trials) == len(record.reports) == 30
    assert runner.most == 2, "as many at a time as the runner takes"
    assert abs(study.best_params["clip"] - 0.2) < 0.05
    assert runner.started[0].parent_run_id == "run-0"


def test_n_trials_is_a_total(tmp_path: Path) -> None:
    sweep(tmp_path, Instant(score), n_trials=4)
    runner = Instant(score)
    study, _ = sweep(tmp_path, runner, n_trials=7)
    assert [job.claim.number for job in runner.started] == [4, 5, 6]
    assert len({trial.params["clip"] for trial in study.trials}) == 7, "a resumed sampler does not repeat itself"


def test_seeds_are_judged_by_their_interquartile_mean(tmp_path: Path) -> None:
    values = {0: 1.0, 1: 2.0, 2: 100.0, 3: 3.0, 4: -50.0}
    runner = Instant(lambda job: (values[job.seed_index],))
    study, record = sweep(tmp_path, runner, n_trials=2, seeds_per_trial=5, seed=7)
    expected = interquartile_mean(list(values.values()))
    assert [trial.value for trial in study.trials] == [expected, expected]
    seeds = [next(part for part in job.overrides if part.startswith("seed=")) for job in runner.started[::2]]
    assert seeds == ["seed=7", "seed=8", "seed=9", "seed=10", "seed=11"]
    attributes = study.trials[0].user_attrs
    assert attributes["eval/return each seed"] == list(values.values())
    assert attributes["eval/return mean"] == pytest.approx(statistics.fmean(values.values()))
    assert attributes["eval/return sd"] == pytest.approx(statistics.stdev(values.values()))
    assert study.trials[0].intermediate_values == values
    assert record.reports[0].each == tuple((value,) for value in values.values())


def test_wilcoxon_stops_a_trial_that_is_clearly_worse(tmp_path: Path) -> None:
    def worse_from_the_second_on(job: Job) -> tuple[float, ...]:
        return ((100.0 if job.claim.number == 0 else 0.0) + job.seed_index,)

    runner = Instant(worse_from_the_second_on, capacity=1)
    study, _ = sweep(tmp_path, runner, n_trials=4, seeds_per_trial=10, workers=1, pruning=Pruning("wilcoxon", 1, 10))
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]
    runs = Counter(job.claim.number for job in runner.started)
    assert runs[0] == 10
    assert max(runs[number] for number in (1, 2, 3)) < 10


def test_a_trial_that_raises_is_kept_and_the_sweep_goes_on(tmp_path: Path) -> None:
    def third_fails(job: Job) -> tuple[float, ...]:
        if job.claim.number == 2:
            raise RuntimeError("the simulator is on fire")
        return score(job)

    study, record = sweep(tmp_path, Instant(third_fails), n_trials=5)
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == 4
    assert "the simulator is on fire" in study.trials[2].user_attrs["error"]
    assert [report.end for report in record.reports].count("failed") == 1


def test_too_many_failures_end_the_sweep(tmp_path: Path) -> None:
    def fails(job: Job) -> tuple[float, ...]:
        raise RuntimeError("no")

    runner = Instant(fails)
    with pytest.raises(SweepError, match="max_failures=3"):
        sweep(tmp_path, runner, n_trials=20, max_failures=3)
    assert len(runner.started) == 4, "the one that was under way is waited for"


def test_an_objective_that_was_never_measured_is_a_failure(tmp_path: Path) -> None:
    study, _ = sweep(tmp_path, Instant(lambda job: (float("nan"),)), n_trials=1)
    assert study.trials[0].state == TrialState.FAIL
    assert "never measured" in study.trials[0].user_attrs["error"]


def test_a_stop_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    count = itertools.count()
    runner = Instant(score)
    study, record = sweep(tmp_path, runner, stopping=lambda: next(count) > 12, n_trials=50)
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert 0 < len(done) < 49
    assert [report.end for report in record.reports].count("interrupted") == len(study.trials) - len(done)


def test_a_timeout_starts_no_more_trials(tmp_path: Path) -> None:
    runner = Instant(score)
    study, _ = sweep(tmp_path, runner, n_trials=50, timeout=0.0)
    assert study.trials == []


def test_a_run_that_fails_while_the_sweep_is_stopped_is_run_again(tmp_path: Path) -> None:
    """The signal may have killed it."""

    def fails(job: Job) -> tuple[float, ...]:
        raise RuntimeError("exit code 255")

    count = itertools.count()
    study, record = sweep(tmp_path, Dying(fails), stopping=lambda: next(count) > 2, n_trials=5)
    assert {trial.state for trial in study.trials} == {TrialState.RUNNING}
    assert {report.end for report in record.reports} == {"interrupted"}


class Dying(Instant):
    """Its runs fail when they are asked to stop."""

    def stop(self) -> Sequence[Outcome]:
        ended, self._under_way = self._under_way, []
        return [Outcome(job, "failed", error="the process ended with exit code 255") for job in ended]


def test_a_condition_that_raises_fails_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace(CLIP, "test_study.raises_or_returns_a_list")
    with pytest.raises(SweepError, match="2 trials failed"):
        place = StudyPlace(None, tmp_path, None)
        run_study(settings(max_failures=2), space, place, Instant(score), lambda: False)
    failed = [trial for trial in _trials(tmp_path) if trial.state == TrialState.FAIL]
    assert [trial.number for trial in failed] == [0, 1]
    assert "KeyError: 'boom'" in failed[0].user_attrs["error"]
    assert "must return settings by key, or None, not [1]" in failed[1].user_attrs["error"]


def raises_or_returns_a_list(trial: optuna.Trial, values: dict[str, object]) -> Any:
    if trial.number == 0:
        raise KeyError("boom")
    return [1]


def test_what_a_condition_sets_is_told_and_not_what_it_suggested(tmp_path: Path) -> None:
    space = SearchSpace({"model": Choice(("wide",)), **CLIP}, "test_study.width")
    result = run_study(settings(), space, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)
    assert "'model.hidden_sizes=[" in result.summary
    assert " width=" not in result.summary


def test_a_grid_ends_with_its_last_point(tmp_path: Path) -> None:
    space = SearchSpace({"clip": Choice(("0.1", "0.2", "0.3"))})
    place = StudyPlace(None, tmp_path, None)
    result = run_study(settings(sampler="grid", n_trials=3), space, place, Instant(lambda job: (1.0,)), lambda: False)
    assert result.counts["complete"] == 3
    assert {trial.params["clip"] for trial in _trials(tmp_path)} == {"0.1", "0.2", "0.3"}


def test_enqueued_choices_may_be_written_in_any_way() -> None:
    dimensions: dict[str, Dimension] = {
        "sizes": Choice(("[32,32]", "[16]")), "lr": Choice(("1e-3", "1e-4")), "kl": Choice(("null", "0.02")),
        "epochs": Interval(4, 20, integer=True, step=4), "clip": Interval(0.1, 0.3),
    }  # fmt: skip
    space = SearchSpace(dimensions)
    item = {"sizes": [32, 32], "lr": 0.001, "kl": None, "epochs": 8, "clip": 0.1}
    assert enqueued(item, space) == {"sizes": "[32,32]", "lr": "1e-3", "kl": "null", "epochs": 8, "clip": 0.1}
    for wrong in ({"sizes": [8]}, {"lr": "fast"}, {"epochs": 7}, {"epochs": 8.5}, {"clip": True}):
        with pytest.raises(ConfigError, match=f"enqueue: {next(iter(wrong))}="):
            enqueued(wrong, space)


def test_what_is_enqueued_later_is_tried_once(tmp_path: Path) -> None:
    place = StudyPlace(None, tmp_path, None)
    for n_trials in (2, 4, 6):
        later = settings(n_trials=n_trials, enqueue=({"clip": 0.123},) if n_trials > 2 else ())
        run_study(later, SPACE, place, Instant(score), lambda: False)
    assert [trial.params["clip"] for trial in _trials(tmp_path)].count(0.123) == 1


def test_enqueued_settings_come_first(tmp_path: Path) -> None:
    runner = Instant(score)
    run_study(settings(enqueue=({"clip": 0.123},)), SPACE, StudyPlace(None, tmp_path, None), runner, lambda: False)
    assert runner.started[0].claim.values == {"clip": 0.123}


def test_result_tells_how_to_go_on(tmp_path: Path) -> None:
    chosen = settings(fixed=("env=hopper",))
    result = run_study(chosen, SPACE, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)
    assert result.counts["complete"] == 6
    assert result.best_values == [max(trial.value for trial in _trials(tmp_path))]
    assert f"python src/train.py env=hopper clip={result.best[0].params['clip']!r}" in result.summary
    assert {path.suffix for path in result.pictures} == {".png", ".html"}
    assert all(path.stat().st_size > 5000 for path in result.pictures)


def _trials(folder: Path) -> Any:
    return optuna.load_study(study_name="s", storage=open_storage(None, "s", folder).optuna).trials


@pytest.mark.parametrize(
    ("changes", "dimensions", "told"),
    [
        ({}, {"clip": Interval(0.05, 0.5)}, "another search space.*0.4.*0.5"),
        ({"directions": ("minimize",)}, CLIP, "another direction"),
        ({"seeds_per_trial": 2}, CLIP, "another seeds_per_trial"),
        ({"identity": {"total_steps": 5}}, CLIP, "another total_steps"),
    ],
)
def test_a_study_is_not_mixed_with_another(
    changes: dict[str, Any], dimensions: dict[str, Dimension], told: str, tmp_path: Path
) -> None:
    storage = open_storage(None, "s", tmp_path)
    open_study(settings(identity={"total_steps": 9}), SPACE, storage)
    with pytest.raises(ConfigError, match=f"study_name=s: exists with {told}"):
        open_study(settings(**({"identity": {"total_steps": 9}} | changes)), SearchSpace(dimensions), storage)


# --- reports from runs -----------------------------------------------------------------------------------------------


def reference(folder: Path, claim: Claim, pruning: Pruning) -> TrialReference:
    return TrialReference(
        storage=None, folder=str(folder), study="s", number=claim.number, trial_id=claim.trial_id, pruning=pruning,
        parent_run_id=None, run_name="trial-0000",
    )  # fmt: skip


def test_a_run_reports_and_is_stopped_when_it_is_worse(tmp_path: Path) -> None:
    pruning = Pruning("median", 1, 5, {"n_startup_trials": 2, "n_warmup_steps": 1})
    trials, study, _ = opened(tmp_path, pruning=pruning)
    answers = []
    for value in (5.0, 6.0, 1.0):
        claim = trials.claim(9)
        assert claim is not None
        passed = TrialReference.from_text(reference(tmp_path, claim, pruning).as_text())
        report = reporter(passed, pruning)
        answers.append([report(1, value), report(2, value)])
        trials.complete(claim, [value], {})
    assert answers == [[False, False], [False, False], [False, True]]
    assert study.trials[2].intermediate_values == {1: 1.0, 2: 1.0}


def test_a_report_that_fails_stops_nobody(tmp_path: Path) -> None:
    claim = Claim(0, 0, {}, again=False)
    assert (
        reporter(reference(tmp_path / "nothing", claim, Pruning("median", 1, 5)), Pruning("median", 1, 5))(1, 2.0)
        is False
    )
