"""Studies and tracking in a real PostgreSQL server, which these tests start: what several machines would share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from populations import GENERATIONS, MEMBERS, POPULATION, lineage_of, segments
from sqlalchemy import create_engine, text
from study_parts import SPACE, settings

from commands import TINY, run_folders, start_training, train
from ppolab.study import claims as trials_module
from ppolab.study.claims import Owner, Trials
from ppolab.study.storage import GRACE_SECONDS, open_storage

pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install 'ppolab[postgres]'")


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None


def _as_server_user(command: list[object], folder: Path) -> None:
    """The server refuses to run as root."""
    words = [str(word) for word in command]
    if os.getuid() == 0:
        words = ["runuser", "-u", "postgres", "--", *words]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a server with an empty database, gone after the module."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    _as_server_user([binaries / "initdb", "-D", data, "-U", "ppolab", "--auth=trust", "--no-sync"], folder)
    options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
    _as_server_user([binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], folder)
    try:
        place = f"postgresql+psycopg2://ppolab@127.0.0.1:{port}"
        with create_engine(f"{place}/postgres", isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE tracking"))
        yield f"{place}/postgres"
    finally:
        _as_server_user([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], folder)
        shutil.rmtree(folder)


def tracking_of(server: str) -> str:
    """The server's other database."""
    return server.replace("/postgres", "/tracking")


def counted(url: str, name: str) -> Counter[TrialState]:
    study = optuna.load_study(study_name=name, storage=url)
    return Counter(trial.state for trial in study.trials)


def test_two_sweeps_share_a_study_and_its_tracking(server: str, tmp_path: Path) -> None:
    """As two machines would, each in a folder of its own."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    arguments = (
        "-m", "env=cartpole", "clip=interval(0.05,0.3)", "study_name=shared", f"storage={server}", "n_trials=6",
        "workers=1", "sampler=random", "pruner=median", *TINY, "total_steps=256", "eval_interval=64",
        f"logger.tracking_uri={tracking_of(server)}",
    )  # fmt: skip
    group = [start_training(folder, *arguments) for folder in folders]
    for process in group:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    assert counted(server, "shared") == {TrialState.COMPLETE: 6}
    assert sum(len(run_folders(folder)) for folder in folders) == 6
    from mlflow import MlflowClient

    store = MlflowClient(tracking_of(server))
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    runs = store.search_runs(experiments, "tags.study = 'shared'")
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(str(run.info.run_name) for run in children) == [f"trial-{number:04d}" for number in range(6)]


def test_two_sweeps_share_a_population(server: str, tmp_path: Path) -> None:
    """As two machines would that share the folders of runs; the lineage is that of one sweep alone."""
    alone = tmp_path / "alone"
    alone.mkdir()
    answer = train(alone, *POPULATION, "logger=none", timeout=600)
    assert answer.code == 0, answer.err
    folders = [tmp_path / "a", tmp_path / "b"]
    shared = (f"storage={server}", "study_name=population", "workers=1", "progress=off")
    arguments = (*POPULATION, *shared, f"logger.tracking_uri={tracking_of(server)}")
    for folder in folders:
        folder.mkdir()
    group = [start_training(folder, *arguments) for folder in folders]
    for process in group:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    stored = optuna.load_study(study_name="population", storage=server).trials
    assert lineage_of(stored) == segments(alone)
    assert {len(run_folders(folder)) > 0 for folder in folders} == {True}, "both have trained"
    from mlflow import MlflowClient

    store = MlflowClient(tracking_of(server))
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    members = store.search_runs(experiments, "tags.study = 'population' and tags.`ppolab.kind` = 'member'")
    assert sorted(str(run.info.run_name) for run in members) == [f"member-{member:02d}" for member in range(MEMBERS)]
    below = store.search_runs(experiments, "tags.study = 'population' and tags.`ppolab.kind` = 'segment'")
    assert len(below) == MEMBERS * GENERATIONS


def test_a_trial_of_a_silent_machine_is_run_again(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ppolab.study.run_study import open_study

    storage = open_storage(server, "silent", tmp_path)
    study = open_study(replace(settings(), name="silent"), SPACE, storage)
    elsewhere = Owner("another-machine", 1, 1)
    monkeypatch.setattr(trials_module.Owner, "of_this_process", classmethod(lambda cls: elsewhere))
    lost = Trials(study, storage, SPACE).claim(1)
    monkeypatch.undo()
    assert lost is not None
    here = Trials(study, storage, SPACE)
    assert here.claim(1) is None, "it has just shown life"
    with create_engine(server).begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = heartbeat - make_interval(secs => :seconds)"),
            {"seconds": 2 * GRACE_SECONDS},
        )
    again = here.claim(1)
    assert again is not None
    assert (again.number, again.again, again.values) == (lost.number, True, lost.values)


def test_one_database_for_both_is_refused(server: str, tmp_path: Path) -> None:
    same = (f"storage={server}", f"logger.tracking_uri={server}")
    answer = train(tmp_path, "-m", "clip=interval(0.1,0.3)", *same)
    assert answer.code == 2
    assert answer.err.startswith("ppolab: storage=postgresql+psycopg2://***@127.0.0.1")
    assert answer.err.count("\n") == 1
    assert "logger.tracking_uri" in answer.err


def test_a_database_that_is_not_there(server: str, tmp_path: Path) -> None:
    answer = train(tmp_path, "-m", "clip=interval(0.1,0.3)", f"storage={server.replace('/postgres', '/nowhere')}")
    assert answer.code == 2
    assert answer.err.startswith("ppolab: storage=postgresql+psycopg2://***@127.0.0.1")
    assert answer.err.count("\n") == 1
    assert "nowhere" in answer.err
