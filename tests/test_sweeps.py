"""Sweeps through the real command: studies, grids, resume, faults, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from commands import TINY, Answer, metric_rows, run_folders, start_training, train, write_user_module
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


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(workspace: Path) -> Answer:
    """Four trials, of which the first is given."""
    answer = train(workspace, *STUDY, "n_trials=4", "enqueue=[{clip:0.2}]", "sampler=random", "seed=5")
    assert answer.code == 0, answer.err
    return answer


@pytest.fixture(scope="module")
def resumed(workspace: Path, study: Answer) -> Answer:
    """The same command with a higher total."""
    answer = train(workspace, *STUDY, "n_trials=6", "enqueue=[{clip:0.2}]", "sampler=random", "seed=5")
    assert answer.code == 0, answer.err
    return answer


def test_a_study_tells_its_trials_and_its_best(study: Answer) -> None:
    lines = study.out.splitlines()
    assert sum(line.startswith("trial ") for line in lines) == 4
    assert any("complete" in line and "eval/return" in line and "clip=0.2" in line for line in lines)
    assert any(line.startswith("train it      python src/train.py") and "clip=" in line for line in lines)
    assert "optuna-dashboard outputs/studies/s.journal" in study.out


def test_a_study_goes_on_to_its_total(workspace: Path, resumed: Answer) -> None:
    ended = trials(workspace)
    assert [trial.number for trial in ended] == list(range(6))
    assert all(trial.state == TrialState.COMPLETE for trial in ended)
    assert ended[0].params == {"clip": 0.2}
    assert len({trial.params["clip"] for trial in ended}) == 6
    assert sum(line.startswith("trial ") for line in resumed.out.splitlines()) == 2


def test_every_trial_has_a_folder_with_its_run(workspace: Path, resumed: Answer) -> None:
    folders = run_folders(workspace)
    assert [folder.name for folder in folders] == [f"trial-{number:04d}" for number in range(6)]
    for trial, folder in zip(trials(workspace), folders, strict=True):
        assert f"clip: {trial.params['clip']!r}" in (folder / "config.yaml").read_text()
        assert trial.user_attrs["folders"] == [str(folder.relative_to(workspace))]
        assert float(metric_rows(folder)[-1]["eval/return"]) == trial.value
        assert not (folder / "video.mp4").exists()


def test_the_study_is_a_run_with_its_trials_below(workspace: Path, resumed: Answer) -> None:
    (parent,) = runs(workspace, "attributes.run_name = 's'")
    children = runs(workspace, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.info.run_name for run in children] == [f"trial-{number:04d}" for number in range(6)]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    ended = trials(workspace)
    best = max(ended, key=lambda trial: trial.value)
    assert parent.data.metrics["best/eval/return"] == best.value
    assert float(parent.data.tags["best.clip"]) == ended[int(parent.data.tags["best.trial"])].params["clip"]
    assert [run.data.metrics["eval/return"] for run in children] == [trial.value for trial in ended]
    assert {item.path for item in client(workspace).list_artifacts(parent.info.run_id, "plots")} == {
        f"plots/{name}.{kind}" for name in ("optimization_history", "slice") for kind in ("png", "html")
    }


def test_sorting_by_the_objective(workspace: Path, resumed: Answer) -> None:
    store = client(workspace)
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    listed = store.search_runs(experiments, "tags.study = 's'", order_by=["metrics.`eval/return` DESC"])
    values = [run.data.metrics["eval/return"] for run in listed if "eval/return" in run.data.metrics]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)


def test_another_space_is_refused(workspace: Path, resumed: Answer) -> None:
    other = [part.replace("0.3)", "0.4)") for part in STUDY]
    answer = train(workspace, *other, "n_trials=6")
    assert answer.code == 2
    assert answer.err.startswith("ppolab: study_name=s: exists with another search space")
    assert answer.err.count("\n") == 1


# --- seeds, pruning, objectives --------------------------------------------------------------------------------------


def test_seeds_of_a_trial(tmp_path: Path) -> None:
    answer = train(tmp_path, *STUDY, "n_trials=2", "seeds_per_trial=3", "seed=10")
    assert answer.code == 0, answer.err
    (parent,) = runs(tmp_path, "attributes.run_name = 's'")
    children = runs(tmp_path, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.info.run_name for run in children] == ["trial-0000", "trial-0001"]
    for child, trial in zip(children, trials(tmp_path), strict=True):
        grandchildren = runs(tmp_path, f"tags.`mlflow.parentRunId` = '{child.info.run_id}'")
        assert [run.data.params["seed"] for run in grandchildren] == ["10", "11", "12"]
        values = [run.data.metrics["eval/return"] for run in grandchildren]
        assert trial.user_attrs["eval/return each seed"] == values
        assert trial.value == child.data.metrics["eval/return"]
        assert min(values) <= trial.value <= max(values)


def test_a_pruned_run_is_marked_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    pruning = ("pruner=median", "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0", "eval_interval=64")
    answer = train(
        tmp_path, "-m", "env=cartpole", "optimizer.lr=1e-2,1e-9", "study_name=s", "workers=1", "n_trials=2",
        "enqueue=[{optimizer.lr:1e-9},{optimizer.lr:1e-2}]", *pruning, *TINY, "total_steps=2048", "eval_episodes=8",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    states = [trial.state for trial in trials(tmp_path)]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED], answer.out
    pruned = trials(tmp_path)[1]
    assert 0 < max(pruned.intermediate_values) < 2048
    (run,) = runs(tmp_path, "attributes.run_name = 'trial-0001'")
    assert (run.info.status, run.data.tags["ended"]) == ("KILLED", "pruned")
    assert (tmp_path / pruned.user_attrs["folders"][0] / "checkpoints/last.ckpt").is_file()


def test_two_objectives(tmp_path: Path) -> None:
    answer = train(
        tmp_path, "-m", "search=return_vs_time", "env=cartpole", "study_name=s", "n_trials=3", *TINY,
        "total_steps=256", "minibatch_size=32,64",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in trials(tmp_path))
    assert (tmp_path / "outputs/studies/s/plots/pareto_front.png").is_file()


def test_condition_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "my_space.py").write_text(
        "def width(trial, values):\n"
        "    if values['model.activation'] == 'relu':\n"
        "        return {'model.hidden_sizes': f\"[{trial.suggest_int('width', 4, 9)}]\"}\n"
    )
    answer = train(
        tmp_path, "-m", "env=cartpole", "model.activation=tanh,relu", "hydra.sweeper.condition=my_space.width",
        "sampler=random", "study_name=s", "n_trials=6", *TINY, "total_steps=128",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    for trial, folder in zip(trials(tmp_path), run_folders(tmp_path), strict=True):
        config = (folder / "config.yaml").read_text()
        wide = trial.params["model.activation"] == "relu"
        assert ("width" in trial.params) == wide
        assert (f"- {trial.params.get('width')}\n" in config) == wide


# --- faults ----------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(folder: Path) -> Counter[TrialState]:
    if not (folder / "outputs/studies/s.journal").exists():
        return Counter()
    try:
        return Counter(trial.state for trial in trials(folder))
    except KeyError:  # the study is just being made
        return Counter()


def children_of(pid: int) -> list[int]:
    """All processes below `pid`."""
    direct = [
        int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
    ]
    return [*direct, *(below for child in direct for below in children_of(child))]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train: they have a study's trial in their environment."""
    found = []
    for pid in children_of(process.pid):
        try:
            if "trial-" in str(Path(f"/proc/{pid}/fd/1").readlink()):
                found.append(pid)
        except OSError:
            continue
    return found


LONG = (*STUDY, "total_steps=4096", "eval_interval=0", "logger=none")


def test_a_killed_worker_fails_its_trial_only(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG, "n_trials=3")
    wait_until(lambda: len(workers_of(process)) == 2, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert states(tmp_path) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    (failed,) = [trial for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    assert "SIGKILL" in failed.user_attrs["error"]


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    process = start_training(tmp_path, *LONG, "n_trials=4")
    wait_until(lambda: states(tmp_path)[TrialState.COMPLETE] >= 1 and len(workers_of(process)) == 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on with study s" in err
    done = {trial.number: trial.value for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE}
    answer = train(tmp_path, *LONG, "n_trials=4")
    assert answer.code == 0, answer.err
    assert states(tmp_path) == {TrialState.COMPLETE: 4}
    assert done.items() <= {trial.number: trial.value for trial in trials(tmp_path)}.items()


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
    done = {trial.number: trial.value for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE}
    answer = train(tmp_path, *LONG, "n_trials=4")
    assert answer.code == 0, answer.err
    assert states(tmp_path) == {TrialState.COMPLETE: 4}
    assert done.items() <= {trial.number: trial.value for trial in trials(tmp_path)}.items()


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
    "job of a grid": ("clip=0.1,1.5", "clip=1.5", "strictly between 0 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_sweep_is_answered_in_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, *expected = MISTAKES[mistake]
    answer = train(tmp_path, "-m", *arguments.split())
    assert answer.code == 2, answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("ppolab: ")
    for part in expected:
        assert part in answer.err
    assert not (tmp_path / "outputs" / "mlflow.db").exists()


def test_every_search_space_runs(tmp_path: Path) -> None:
    """With the environment and sizes of a test, whose batch every choice of a minibatch divides."""
    sizes = ("env=cartpole", "num_envs=16", "total_steps=2048", "eval_episodes=1", "logger=none", "n_trials=1")
    folder = Path(__file__).parents[1] / "sweeps/search"
    for path in sorted(folder.glob("*.yaml")):
        if path.stem == "clip_grid":
            continue
        answer = train(tmp_path, "-m", f"search={path.stem}", *sizes)
        assert answer.code == 0, (path.stem, answer.err)
        name = f"{path.stem}-cartpole"
        assert len(trials(tmp_path, name)) == 1


def test_values_are_kept_exactly(workspace: Path, resumed: Answer) -> None:
    journal = [json.loads(line) for line in (workspace / "outputs/studies/s.journal").read_text().splitlines()]
    assert journal
    values: list[Any] = [trial.params["clip"] for trial in trials(workspace)]
    written = [(folder / ".hydra/overrides.yaml").read_text() for folder in run_folders(workspace)]
    assert all(f"clip={value!r}" in text for value, text in zip(values, written, strict=True))
