"""Studies as the tests look at them: Optuna's trials and MLflow's runs of a folder."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from commands import TINY
from ppolab.study.storage import open_storage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STUDY = ("-m", "env=cartpole", "clip=interval(0.05,0.3)", "study_name=s", "workers=2", *TINY, "total_steps=256")
"""A trial of 256 steps."""


def trials(folder: Path, name: str = "s") -> list[FrozenTrial]:
    """As Optuna has them."""
    storage = open_storage(None, name, folder / "outputs/studies")
    return optuna.load_study(study_name=name, storage=storage.optuna).trials


def client(folder: Path) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")


def runs(folder: Path, condition: str = "") -> list[Run]:
    """Tracking runs, in the order of their names."""
    store = client(folder)
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return sorted(store.search_runs(experiments, condition), key=lambda run: str(run.info.run_name))


def states(folder: Path) -> Counter[TrialState]:
    if not (folder / "outputs/studies/s.journal").exists():
        return Counter()
    try:
        return Counter(trial.state for trial in trials(folder))
    except KeyError:  # the study is just being made
        return Counter()


def children_of(pid: int) -> list[int]:
    """All processes below `pid`; none if it is gone."""
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        direct = [int(word) for task in tasks for word in task.read_text().split()]
    except OSError:
        return []
    return [*direct, *(below for child in direct for below in children_of(child))]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train: they have a study's trial in their environment."""
    found = []
    for pid in children_of(process.pid):
        try:
            if "/studies/" in str(Path(f"/proc/{pid}/fd/1").readlink()):
                found.append(pid)
        except OSError:
            continue
    return found
