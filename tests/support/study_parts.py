"""Parts of a study without Hydra and without runs: settings, runners whose runs end at once, a silent record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from ppolab.records.tracking import NoTracker, Tracker
from ppolab.study.claims import Claim, Trials
from ppolab.study.run_study import open_study
from ppolab.study.search_space import Dimension, Interval, SearchSpace
from ppolab.study.settings import Pruning, StudySettings
from ppolab.study.storage import StudyStorage, open_storage
from ppolab.study.sweep_loop import Job, Outcome, Sweep, TrialReport

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


def opened(folder: Path, **changes: Any) -> tuple[Trials, optuna.Study, StudyStorage]:
    storage = open_storage(changes.pop("storage", None), "s", folder)
    study = open_study(settings(**changes), SPACE, storage)
    return Trials(study, storage, SPACE), study, storage


def score(job: Job) -> tuple[float, ...]:
    """Best at clip = 0.2; the seeds differ a little."""
    clip = job.claim.values["clip"]
    assert isinstance(clip, float)
    return (-abs(clip - 0.2) + 0.001 * job.seed_index,)


class Instant:
    """A runner whose runs end at once, in the order of their start, or never for a stop."""

    ends_lost_runs = False

    def __init__(
        self, function: Callable[[Job], tuple[float, ...]], capacity: int = 2, *, together: bool = False
    ) -> None:
        self.capacity = capacity
        self.together = together
        self.function = function
        self.started: list[Job] = []
        self.most = 0
        self._under_way: list[Job] = []

    def start(self, job: Job) -> None:
        self.started.append(job)
        self._under_way.append(job)
        self.most = max(self.most, len(self._under_way))

    def start_together(self, jobs: Sequence[Job]) -> bool:
        if not self.together:
            return False
        self.started += jobs
        self._under_way += jobs
        self.most = max(self.most, len(self._under_way))
        return True

    def wait(self, seconds: float) -> Sequence[Outcome]:
        job = self._under_way.pop(0)
        try:
            return [Outcome(job, "complete", self.function(job), seconds=0.25)]
        except RuntimeError as error:
            return [Outcome(job, "failed", error=f"Traceback\nRuntimeError: {error}")]

    def under_way(self) -> Sequence[tuple[Job, Path]]:
        return [(job, Path("nowhere")) for job in self._under_way]

    def stop(self) -> Sequence[Outcome]:
        ended, self._under_way = self._under_way, []
        return [Outcome(job, "interrupted") for job in ended]

    def send_again(self, study: Path, uri: str, parent: Tracker) -> None:
        pass

    def close(self) -> None:
        pass

    def give_up(self) -> None:
        pass


class Silent:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[TrialReport] = []
        self.shown: list[list[int]] = []
        self.tracker = NoTracker()
        self.all_begun = 0

    def begin(self, claim: Claim) -> Tracker:
        return self.tracker

    def last_begun(self) -> None:
        self.all_begun += 1

    def end(self, report: TrialReport) -> None:
        self.reports.append(report)

    def show(self, runs: Sequence[tuple[Job, Path]]) -> None:
        self.shown.append([job.claim.number for job, _ in runs])


class Dying(Instant):
    """Its runs fail when they are asked to stop."""

    def stop(self) -> Sequence[Outcome]:
        ended, self._under_way = self._under_way, []
        return [Outcome(job, "failed", error="the process ended with exit code 255") for job in ended]


def sweep(
    folder: Path, runner: Instant, stopping: Callable[[], bool] = lambda: False, **changes: Any
) -> tuple[optuna.Study, Silent]:
    trials, study, _ = opened(folder, **changes)
    record = Silent()
    Sweep(settings(**changes), trials, runner, record, stopping).run()
    return study, record


def stored_trials(folder: Path) -> Any:
    return optuna.load_study(study_name="s", storage=open_storage(None, "s", folder).optuna).trials


def width(trial: optuna.Trial, values: dict[str, Any]) -> dict[str, Any]:
    """A condition: how wide a wide model is."""
    if values["model"] == "wide":
        return {"model.hidden_sizes": f"[{trial.suggest_int('width', 128, 256)}]"}
    return {}
