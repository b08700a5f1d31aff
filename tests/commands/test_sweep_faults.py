"""Sweeps when something goes wrong: killed and interrupted processes, runs that raise, mistakes; and plain grids."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from commands import TINY, assert_one_line, metric_rows, run_folders, start_training, train, write_user_module
from studies import STUDY, children_of, runs, states, trials, workers_of

if TYPE_CHECKING:
    from mlflow.entities import Run

# --- faults ----------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def training_runs(folder: Path) -> list[Run]:
    """The tracking runs of trials."""
    return runs(folder, "attributes.run_name LIKE 'trial-%'")


LONG = (*STUDY, "total_steps=4096", "eval_interval=0", "logger=none")


def test_a_killed_worker_fails_its_trial_only(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG[:-1], "n_trials=3")
    wait_until(lambda: len(workers_of(process)) == 2 and len(training_runs(tmp_path)) == 2, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert states(tmp_path) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    (failed,) = [trial for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    assert "SIGKILL" in failed.user_attrs["error"]
    ended = {run.info.run_name: run.info.status for run in training_runs(tmp_path)}
    assert ended.pop(f"trial-{failed.number:04d}") == "KILLED"
    assert set(ended.values()) == {"FINISHED"}


def assert_goes_on_to_four(folder: Path) -> None:
    """The same command brings the study to four trials, and those that were complete stay as they are."""
    done = {trial.number: trial.value for trial in trials(folder) if trial.state == TrialState.COMPLETE}
    answer = train(folder, *LONG, "n_trials=4")
    assert answer.code == 0, answer.err
    assert states(folder) == {TrialState.COMPLETE: 4}
    assert done.items() <= {trial.number: trial.value for trial in trials(folder)}.items()


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG, "n_trials=4")
    wait_until(lambda: states(tmp_path)[TrialState.COMPLETE] >= 1 and len(workers_of(process)) == 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on with study s" in err
    assert_goes_on_to_four(tmp_path)


def test_a_killed_sweep_loses_nothing_and_leaves_nobody_behind(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG, "n_trials=4")
    wait_until(lambda: states(tmp_path)[TrialState.COMPLETE] >= 1 and len(workers_of(process)) == 2, process)
    below = children_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < deadline, "a run outlives its sweep"
        time.sleep(0.1)
    assert_goes_on_to_four(tmp_path)


def test_two_sweeps_share_a_study(tmp_path: Path) -> None:
    processes = [start_training(tmp_path, *STUDY[:4], "workers=1", *STUDY[5:], "n_trials=5") for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    assert states(tmp_path) == {TrialState.COMPLETE: 5}
    assert len(run_folders(tmp_path)) == 5
    assert len(runs(tmp_path, "attributes.run_name = 's'")) == 1


def test_a_trial_that_raises_is_kept_with_its_traceback(tmp_path: Path) -> None:
    write_user_module(tmp_path)
    answer = train(
        tmp_path, "-m", "env.id=user_module:Breaks-v0", "clip=interval(0.1,0.3)", "study_name=s", "n_trials=9",
        "max_failures=2", "workers=1", *TINY, "total_steps=256",
    )  # fmt: skip
    assert answer.code == 1
    assert answer.err.startswith("ppolab: 2 trials failed, max_failures=2")
    assert states(tmp_path) == {TrialState.FAIL: 2}
    assert "the simulator is on fire" in trials(tmp_path)[0].user_attrs["error"]
    assert {run.info.status for run in runs(tmp_path, "attributes.run_name LIKE 'trial-%'")} == {"FAILED"}


def test_a_study_without_a_single_success_ends_with_an_error(tmp_path: Path) -> None:
    write_user_module(tmp_path)
    answer = train(
        tmp_path, "-m", "env.id=user_module:Breaks-v0", "clip=interval(0.1,0.3)", "study_name=s", "n_trials=1",
        *TINY, "total_steps=256", "logger=none",
    )  # fmt: skip
    assert answer.code == 1
    assert answer.err.startswith("ppolab: no trial of study s came to its end; why is in outputs/studies/s")


# --- grids -----------------------------------------------------------------------------------------------------------


def test_a_grid_runs_every_combination_in_fresh_processes(tmp_path: Path) -> None:
    answer = train(
        tmp_path, "-m", "env=cartpole", "clip=0.1,0.2", "seed=0,1", *TINY, "total_steps=128", "logger.kind=none"
    )
    assert answer.code == 0, answer.err
    folders = run_folders(tmp_path)
    assert len({folder.parent for folder in folders}) == 1
    assert sorted(folder.name for folder in folders) == ["0", "1", "2", "3"]
    assert sum(line.startswith("job ") and "complete" in line for line in answer.out.splitlines()) == 4


def test_jobs_of_a_grid_do_not_depend_on_each_other(tmp_path: Path) -> None:
    same = ("env=cartpole", *TINY, "total_steps=128", "logger.kind=none", "workers=1")
    train(tmp_path, "-m", "seed=3,4", *same)
    alone = train(tmp_path, *same[:-1], "seed=4")
    assert alone.code == 0, alone.err
    second, last = [folder for folder in run_folders(tmp_path) if "seed: 4" in (folder / "config.yaml").read_text()]
    columns = ("step", "train/return", "loss/policy", "eval/return")
    rows = [[[row[name] for name in columns] for row in metric_rows(folder)] for folder in (second, last)]
    assert rows[0] == rows[1]


def test_a_job_that_fails_does_not_end_the_grid(tmp_path: Path) -> None:
    write_user_module(tmp_path)
    answer = train(
        tmp_path, "-m", "env.id=user_module:Breaks-v0,user_module:Simple-v0", *TINY, "total_steps=256",
        "logger.kind=none",
    )  # fmt: skip
    assert answer.code == 1
    assert "1 of 2 jobs failed" in answer.err
    assert "Traceback" not in answer.err
    assert sum("complete" in line for line in answer.out.splitlines()) == 1


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, ...]] = {
    "empty space": ("n_trials=5", "search space is empty", "search=NAME"),
    "bounds the wrong way round": ("clip=interval(0.3,0.1)", "clip=interval(0.3,0.1)", "below the second"),
    "bound that no run takes": ("clip=interval(0.1,1.3)", "clip=interval(0.1,1.3)", "strictly between 0 and 1"),
    "interval for a group": ("env=interval(0,1)", "env=interval(0,1)", "list them"),
    "interval for a text": ("model.activation=interval(0,1)", "model.activation=interval(0,1)", "list them"),
    "fractions for a whole number": ("epochs=interval(1.5,3)", "epochs=interval(1.5,3)", "whole number"),
    "sampler for numbers": ("clip=interval(0.1,0.3) env=hopper,ant sampler=cmaes", "sampler=cmaes", "sampler=tpe"),
    "grid without points": ("clip=interval(0.1,0.3) sampler=grid", "sampler=grid", "qmc"),
    "no such sampler": ("clip=interval(0.1,0.3) sampler=tep", "sampler=tep", "'tpe'"),
    "no such option of a sampler": ("clip=interval(0.1,0.3) sampler=tpe sampler.seeed=1", "sampler=tpe", "seeed"),
    "no such pruner": ("clip=interval(0.1,0.3) pruner=medain", "pruner=medain", "'median'"),
    "one seed for Wilcoxon": ("clip=interval(0.1,0.3) pruner=wilcoxon", "pruner=wilcoxon", "seeds_per_trial=2"),
    "storage out of reach": (
        "clip=interval(0.1,0.3) storage=sqlite:////nowhere/study.db", "storage=sqlite:////nowhere/study.db", "opened",
    ),
    "unknown storage": ("clip=interval(0.1,0.3) storage=redis://host", "storage=redis://host", "postgresql"),
    "no trials": ("clip=interval(0.1,0.3) n_trials=0", "n_trials=0", "1 or more"),
    "mistyped setting": ("clip=interval(0.1,0.3) n_trial=5", "n_trial", "'n_trials'"),
    "no such function": ("hydra.sweeper.condition=nowhere.f clip=0.1,0.2", "condition=nowhere.f", "module.function"),
    "enqueued outside": ("clip=interval(0.1,0.3) enqueue=[{clip:0.9}]", "enqueue: clip=0.9", "0.3"),
    "searched setting that is none": ("clp=interval(0.1,0.3)", "clp", "'clip'"),
    "choice that is no value": ("clip=choice(0.2,foo) n_trials=2", "clip=foo", "number"),
    "choice that no run takes": ("clip=choice(0.2,1.5) n_trials=2", "clip=1.5", "strictly between 0 and 1"),
    "seed and seeds": ("seed=0,1 seeds_per_trial=2", "seeds_per_trial=2", "seed is searched"),
    "two samplers": ("clip=interval(0.1,0.3) sampler=tpe,random", "sampler", "a sweep for each"),
    "workers of a grid": ("clip=0.1,0.2 workers=-1", "workers=-1", "1 or more"),
    "in memory": ("clip=interval(0.1,0.3) storage=sqlite://", "storage=sqlite://", "in memory"),
    "this process": ("clip=interval(0.1,0.3) hydra/launcher=basic", "hydra/launcher=basic", "leave it out"),
    "job of a grid": ("clip=0.1,1.5", "clip=1.5", "strictly between 0 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_sweep_is_answered_in_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(train(tmp_path, "-m", *arguments.split()), *expected)
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
