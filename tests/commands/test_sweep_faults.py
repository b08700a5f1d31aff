"""Sweeps when something goes wrong: killed and interrupted processes, runs that raise, mistakes; and plain grids."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState
from studies import STUDY, children_of, runs, states, trials, workers_of

from commands import TINY, assert_one_line, metric_rows, run_folders, start_training, train, write_user_module
from ppolab.study.grid import shortened

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


def begun(folder: Path) -> int:
    """How many tracking runs of trials there are; without MLflow's client, which would make the database, too."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/outputs/mlflow.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM runs WHERE name LIKE 'trial-%'").fetchone()[0])
    except sqlite3.OperationalError:  # its tables are still being made
        return 0


LONG = (*STUDY, "total_steps=4096", "eval_interval=0", "logger=none")


def test_a_killed_worker_fails_its_trial_only(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG[:-1], "n_trials=3")
    wait_until(lambda: len(workers_of(process)) == 2 and begun(tmp_path) == 2, process)
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
    group = [start_training(tmp_path, *STUDY[:4], "workers=1", *STUDY[5:], "n_trials=5") for _ in range(2)]
    for process in group:
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
    assert len(re.findall(r"^job [01] +complete ", answer.out, re.MULTILINE)) == 1
    assert re.search(r"^grid +outputs/grids/tasks-[0-9a-f]{8}: 1 complete, 1 failed$", answer.out, re.MULTILINE)


def test_runs_of_a_grid_are_told_apart_in_the_store(tmp_path: Path) -> None:
    command = ("-m", "env=cartpole", "clip=range(0.1,0.3,0.1)", "seed=range(2)", *TINY, "total_steps=64")
    answer = train(tmp_path, *command)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("clip=range(0.1,0.3,0.1) takes "), "fractions may not be what one expects"
    clips = [shortened(clip) for clip in answer.out.splitlines()[0].partition(": ")[2].split(", ")]
    *below, parent = runs(tmp_path)
    assert [run.info.run_name for run in below] == [
        f"CartPole-v1 clip={clip} seed={seed}" for clip in clips for seed in (0, 1)
    ]
    folder = Path(parent.data.tags["grid"])
    assert (parent.info.run_name, parent.info.status) == (folder.name, "FINISHED")
    assert {run.parent for run in run_folders(tmp_path)} == {tmp_path / folder}
    assert parent.data.params["varied.seed"] == "0, 1"
    assert parent.data.metrics["runs/finished"] == len(below)
    assert parent.data.tags["best.run"] in {run.info.run_name for run in below}
    for number, run in enumerate(below):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["grid.job"] == str(number)
        assert "-m env=cartpole 'clip=range(0.1,0.3,0.1)'" in run.data.tags["command"]
    alone = shlex.split(below[3].data.tags["command.alone"])
    assert alone[0] == "python"
    again = train(tmp_path, *alone[2:])
    assert again.code == 0, again.err
    assert metrics_without_time(tmp_path / folder / "3") == metrics_without_time(
        next(run for run in run_folders(tmp_path) if tmp_path / folder not in run.parents)
    )


def metrics_without_time(folder: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in metric_rows(folder)]


def test_a_name_of_the_users_own_is_kept_in_a_grid(tmp_path: Path) -> None:
    answer = train(
        tmp_path, "-m", "env=cartpole", "seed=0,1", "logger.run_name='it is ${seed}'", *TINY, "total_steps=64"
    )
    assert answer.code == 0, answer.err
    assert [run.info.run_name for run in runs(tmp_path)][1:] == ["it is 0 seed=0", "it is 1 seed=1"]


def test_an_interrupted_grid_goes_on_by_its_own_command(tmp_path: Path) -> None:
    command = ("-m", "env=cartpole", "clip=0.1,0.2", "workers=1", *TINY, "total_steps=4096", "eval_interval=0")
    process = start_training(tmp_path, *command)
    wait_until(lambda: any(path.read_text().count("\n") > 3 for path in tmp_path.rglob("metrics.csv")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    started, ended = [line for line in out.splitlines() if line.startswith("job ")]
    assert started == "job 0    started      clip=0.1"
    assert re.match(
        r"job 0    interrupted  stopped after [\d,]+ of 4,096 steps, everything is saved  clip=0\.1  ", ended
    )
    assert "KeyboardInterrupt" not in out
    assert re.search(
        r"stopped; 0 of 2 jobs are done, .*; go on with: python .*train\.py -m env=cartpole clip=0\.1,0\.2 ", err
    )
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED"}
    answer = train(tmp_path, *command)
    assert answer.code == 0, answer.err
    assert "0 of 2 are done, 1 goes on from the last checkpoint; to begin again: rm -r outputs/grids/" in answer.out
    assert "job 0    goes on      clip=0.1" in answer.out
    assert sorted(folder.name for folder in run_folders(tmp_path)) == ["0", "1"]
    found = runs(tmp_path)
    assert len(found) == 3, "each run, and the grid's, went on as it was"
    assert {run.info.status for run in found} == {"FINISHED"}


def test_an_objective_that_no_run_can_log_is_told(tmp_path: Path) -> None:
    same = ("env=cartpole", "objective=train/return", *TINY, "rollout_steps=2", "minibatch_size=8", "total_steps=8")
    reason = r"no episode ended within (8|16) steps, so there is no train/return"
    study = train(tmp_path, "-m", "clip=interval(0.1,0.3)", "study_name=s", "n_trials=1", *same, "logger=none")
    assert study.code == 1
    assert re.search(rf"^trial 0    failed      {reason}  clip=", study.out, re.MULTILINE)
    assert re.fullmatch(reason, trials(tmp_path)[0].user_attrs["error"])
    grid = train(tmp_path, "-m", "clip=0.1,0.2", *same, "logger=none")
    assert grid.code == 0, grid.err
    assert len(re.findall(rf"^job . +complete +{reason}", grid.out, re.MULTILINE)) == 2


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, ...]] = {
    "sampler for numbers": ("clip=interval(0.1,0.3) env=hopper,ant sampler=cmaes", "sampler=cmaes", "sampler=tpe"),
    "storage out of reach": (
        "clip=interval(0.1,0.3) storage=sqlite:////nowhere/study.db", "storage=sqlite:////nowhere/study.db", "opened",
    ),
    "unknown storage": ("clip=interval(0.1,0.3) storage=redis://host", "storage=redis://host", "postgresql"),
    "searched setting that is none": ("clp=interval(0.1,0.3)", "clp", "'clip'"),
    "choice that is no value": ("clip=choice(0.2,foo) n_trials=2", "clip=foo", "number"),
    "choice that no run takes": ("clip=choice(0.2,1.5) n_trials=2", "clip=1.5", "strictly between 0 and 1"),
    "in memory": ("clip=interval(0.1,0.3) storage=sqlite://", "storage=sqlite://", "in memory"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_sweep_is_answered_in_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(train(tmp_path, "-m", *arguments.split()), *expected)
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
