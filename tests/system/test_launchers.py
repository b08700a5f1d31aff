"""Studies and grids through other launchers of Hydra's: a real Ray on this machine, and submitit's local processes."""

from __future__ import annotations

import fcntl
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState
from populations import MEMBERS, POPULATION, segments
from studies import STUDY, runs, states, trials

from commands import TINY, assert_one_line, run_folders, start_training, train

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ppolab[ray]'")
pytest.importorskip("submitit", reason="submitit is not installed: pip install 'ppolab[submitit]'")

RAISES_FOR_LARGE_CLIP = """
def condition(trial, values):
    return {"env": "no_such_environment"} if values["clip"] > 0.2999 else {}
"""


@pytest.fixture(autouse=True)
def local_ray(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray asks for a token of its own unless told otherwise, and would keep it in the home folder.

    One test at a time: address=auto would find the Ray of a test beside it, and a group of pytest-xdist 3.8 may run on
    two workers (findings/pytest_xdist_groups_without_effect.sh).
    """
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ray_runs() -> bool:
    """Say whether a Ray runs on this machine, which is what address=auto looks for."""
    return any("gcs_server" in process.name() for process in psutil.process_iter())


@pytest.mark.parametrize("launcher", ["ppolab", "ray", "submitit_local"])
def test_a_study_through_any_launcher(launcher: str, tmp_path: Path) -> None:
    """Pruned, failed and complete trials end as they would in our own processes."""
    (tmp_path / "my_space.py").write_text(RAISES_FOR_LARGE_CLIP)
    pruning = ("pruner=median", "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0", "eval_interval=64")
    first = "enqueue=[{clip: 0.29995}, {clip: 0.1}]"
    space = ("hydra.sweeper.condition=my_space.condition", first, "sampler=random")
    answer = train(tmp_path, *STUDY, *pruning, *space, f"hydra/launcher={launcher}", "n_trials=6", timeout=400)
    assert answer.code == 0, answer.err
    found = trials(tmp_path)
    assert found[0].state == TrialState.FAIL
    assert "no_such_environment" in found[0].user_attrs["error"]
    assert found[1].state == TrialState.COMPLETE
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in found[1:])
    assert len(found) == 6
    assert found[1].intermediate_values
    parent = next(run for run in runs(tmp_path) if "mlflow.parentRunId" not in run.data.tags)
    below = [run for run in runs(tmp_path) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.run_name for run in below} == {f"trial-{number:04d}" for number in range(1, 6)}


def test_a_population_through_ray(tmp_path: Path) -> None:
    """The lineage is that of our own processes."""
    folders = {"ppolab": tmp_path / "ppolab", "ray": tmp_path / "ray"}
    for launcher, folder in folders.items():
        folder.mkdir()
        answer = train(folder, *POPULATION, f"hydra/launcher={launcher}", timeout=900)
        assert answer.code == 0, answer.err
    assert segments(folders["ray"]) == segments(folders["ppolab"])
    (study,) = runs(folders["ray"], "tags.`ppolab.kind` = 'study'")
    members = runs(folders["ray"], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    assert [run.info.run_name for run in members] == [f"member-{member:02d}" for member in range(MEMBERS)]
    below = runs(folders["ray"], "tags.`ppolab.kind` = 'segment'")
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {run.info.run_id for run in members}


@pytest.mark.slow
def test_ray_runs_a_grid_in_fresh_processes(tmp_path: Path) -> None:
    command = ("-m", "hydra/launcher=ray", "env=cartpole", "seed=0,1", *TINY, "total_steps=64")
    answer = train(tmp_path, *command, timeout=240)
    assert answer.code == 0, answer.err
    assert len(run_folders(tmp_path)) == 2
    (parent,) = [run for run in runs(tmp_path) if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics["runs/finished"] == 2.0
    again = train(tmp_path, *command, timeout=240)
    assert (again.code, len(runs(tmp_path))) == (0, 3), again.err
    assert ": 2 of 2 are done; to begin again: rm -r outputs/grids/CartPole-v1-seed-" in again.out


def test_ray_that_is_not_there(tmp_path: Path) -> None:
    deadline = time.monotonic() + 60  # for the processes of the test before this one
    while ray_runs() and time.monotonic() < deadline:
        time.sleep(0.2)
    if ray_runs():
        pytest.skip("a Ray of somebody else's runs on this machine")
    answer = train(tmp_path, *STUDY, "hydra/launcher=ray", "hydra.launcher.ray.init.address=auto")
    assert_one_line(answer, "hydra.launcher.ray.init", "auto")


@pytest.mark.slow
def test_ctrl_c_gives_up_what_ray_runs(tmp_path: Path) -> None:
    process = start_training(tmp_path, *STUDY, "hydra/launcher=ray", "n_trials=2", "total_steps=100000000")
    deadline = time.monotonic() + 120
    while len(run_folders(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert states(tmp_path) == Counter({TrialState.RUNNING: 2})
