"""Tracking against real stores: sqlite, and an `mlflow server` that is late, killed, or slow."""

from __future__ import annotations

import json
import logging
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers import PATIENCE, Server, client_of, free_port, proxy_to, steps_of, wait_for

from ppolab.errors import ConfigError, TrackingError
from ppolab.records.tracking import (
    MlflowTracker,
    NoTracker,
    RunDescription,
    RunStatus,
    environment_tags,
    find_run_artifacts,
    redact,
    resolve_tracking_uri,
    ui_command,
)
from ppolab.records.tracking import mlflow_store as store_module
from ppolab.records.tracking.mlflow_store import RunStore
from ppolab.records.tracking.operations import Finish, Point, Points, Start, parameter_batches

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow 3.17 on SQLAlchemy 2.1, while its store is imported.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def describe(**changes: object) -> RunDescription:
    fields: dict[str, object] = {
        "experiment": "ppo",
        "run_name": "hopper",
        "parameters": {"seed": 1, "optimizer.lr": 0.0003},
        "tags": {"host": "here"},
    }
    return RunDescription(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts while the tests that need no server run; `running` waits until it answers."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # seconds that no time limit below should count

    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def running(server: Server) -> Server:
    wait_for(server.answers, PATIENCE)
    return server


@pytest.fixture(scope="module")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    client_of(uri)  # makes the database
    return uri


def test_close_gives_up_in_time_and_writes_the_backlog(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        backlog = tmp_path / "run" / "backlog.jsonl"
        tracker = MlflowTracker(describe(), f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}", backlog)
        tracker.log_metrics({"a": 1.0, "b": math.nan}, 10)
        tracker.log_artifact(tmp_path / "file")
        begin = time.monotonic()
        report = tracker.close("FAILED", timeout=2.0)
    assert time.monotonic() - begin < 3.0
    assert (report.run_id, report.unsent_metrics, report.unsent_artifacts) == (None, 2, 1)
    assert report.error is not None
    assert tracker.close("FINISHED") is report
    records = [json.loads(line) for line in backlog.read_text().splitlines()]
    assert [record["operation"] for record in records] == [
        "start",
        "parameters",
        "metrics",
        "artifact",
        "finish",
    ]
    assert [point["value"] for point in records[2]["points"]] == [1.0, "nan"]
    assert records[-1]["status"] == "FAILED"
    assert "secret" not in report.error + backlog.read_text()


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_status_parameters_and_tags(sqlite_uri: str, tmp_path: Path, status: RunStatus) -> None:
    parameters = {f"p{index}": index for index in range(230)} | {"long": "x" * 9000, "uri": "http://u:p@h"}
    tracker = MlflowTracker(describe(parameters=parameters), sqlite_uri, tmp_path / "backlog.jsonl")
    report = tracker.close(status)
    assert report.run_id is not None
    run = client_of(sqlite_uri).get_run(report.run_id)
    assert (run.info.status, run.info.run_name, run.data.tags["host"]) == (status, "hopper", "here")
    assert run.data.params["p229"] == "229"
    assert len(run.data.params) == 232
    assert run.data.params["long"] == "x" * 5999 + "…"
    assert run.data.params["uri"] == "http://***@h"
    assert str(Path(sqlite_uri.removeprefix("sqlite:///")).parent / "mlartifacts") in run.info.artifact_uri


def test_the_id_is_waited_for_while_the_store_is_only_slow(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = store_module.connect

    def slow(uri: str) -> MlflowClient:
        time.sleep(1.5)
        return connect(uri)

    monkeypatch.setattr(store_module, "connect", slow)
    tracker = MlflowTracker(describe(), sqlite_uri, tmp_path / "backlog.jsonl")
    assert tracker.wait_for_id(0.5) is not None
    tracker.close("FINISHED", timeout=PATIENCE)


def test_the_id_of_a_store_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    tracker = MlflowTracker(describe(), f"http://127.0.0.1:{free_port()}", tmp_path / "backlog.jsonl")
    begin = time.monotonic()
    assert tracker.wait_for_id(0.5) is None
    assert time.monotonic() - begin < 5
    tracker.close("FAILED", timeout=0.1)


def test_a_run_starts_when_it_began_not_when_the_store_answered(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = store_module.connect

    def slow(uri: str) -> MlflowClient:
        time.sleep(1.0)
        return connect(uri)

    monkeypatch.setattr(store_module, "connect", slow)
    began = time.time()
    tracker = MlflowTracker(describe(), sqlite_uri, tmp_path / "backlog.jsonl")
    report = tracker.close("FINISHED", timeout=PATIENCE)
    info = client_of(sqlite_uri).get_run(str(report.run_id)).info
    assert 0 <= info.start_time / 1000 - began + 0.001 < 1.0
    assert info.end_time >= info.start_time


def test_large_queue_is_sent_in_batches(sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    sizes: list[int] = []
    original = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, **batch: list[object]) -> object:
        sizes.append(len(batch.get("metrics", [])))
        return original(self, run_id, **batch)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    tracker = MlflowTracker(describe(), sqlite_uri, tmp_path / "backlog.jsonl")
    for step in range(1250):
        tracker.log_metrics({"a": 0.0, "b": 1.0}, step)
    report = tracker.close("FINISHED")
    assert sum(sizes) == 2500
    assert max(sizes) <= 1000
    assert len(sizes) < 12
    assert report.run_id is not None
    assert steps_of(sqlite_uri, report.run_id, "b") == list(range(1250))


def test_refused_records_are_set_aside_and_the_rest_is_kept(
    sqlite_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(describe(), sqlite_uri, tmp_path / "backlog.jsonl")
    for step in range(3):
        tracker.log_metrics({"good": 1.0, "bad?": 2.0, "text": "no number"}, step)  # type: ignore[dict-item]
    tracker.log_artifact(tmp_path / "absent.png", "plots")
    tracker.log_metrics({"good": 1.0}, 3)
    report = tracker.close("FINISHED")
    assert (report.unsent_metrics, report.unsent_artifacts) == (3, 1)
    assert report.run_id is not None
    assert steps_of(sqlite_uri, report.run_id, "good") == [0, 1, 2, 3]
    assert client_of(sqlite_uri).get_run(report.run_id).info.status == "FINISHED"
    assert caplog.text.count("metric text is not a number") == 1
    records = [json.loads(line) for line in (tmp_path / "backlog.jsonl").read_text().splitlines()]
    assert [record["operation"] for record in records] == ["metrics", "artifact"]
    assert {point["key"] for point in records[0]["points"]} == {"bad?"}


def test_resume_appends_to_the_same_run(sqlite_uri: str, tmp_path: Path) -> None:
    first = MlflowTracker(describe(), sqlite_uri, tmp_path / "b")
    first.log_metrics({"loss": 1.0}, 1)
    run_id = first.close("KILLED").run_id
    assert run_id is not None
    again = describe(resume_run_id=run_id, parameters={"seed": 1, "optimizer.lr": 0.1}, tags={"host": "there"})
    second = MlflowTracker(again, sqlite_uri, tmp_path / "b")
    wait_for(lambda: second.run_id is not None)
    assert client_of(sqlite_uri).get_run(run_id).info.status == "RUNNING"
    second.log_metrics({"loss": 1.0, "only here": 3.0}, 1)  # made again since the checkpoint, or never sent
    second.log_metrics({"loss": 0.5}, 2)
    report = second.close("FINISHED")
    assert (report.run_id, report.error) == (run_id, None)
    run = client_of(sqlite_uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.0003"
    changed = json.loads(run.data.tags["resumed_with"])
    assert changed == {"parameters": {"optimizer.lr": "0.1"}, "tags": {"host": "there"}}
    assert steps_of(sqlite_uri, run_id, "loss") == [1, 2]
    assert steps_of(sqlite_uri, run_id, "only here") == [1]


def test_resume_of_a_run_the_store_lacks_makes_a_new_one(sqlite_uri: str, tmp_path: Path) -> None:
    report = MlflowTracker(describe(resume_run_id="0" * 32), sqlite_uri, tmp_path / "b").close("FINISHED")
    assert report.run_id is not None
    run = client_of(sqlite_uri).get_run(report.run_id)
    assert run.data.tags["resumed_from"] == "0" * 32
    assert run.data.params["seed"] == "1"


def test_refused_start_ends_tracking_at_once(sqlite_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(sqlite_uri)
    client.delete_experiment(client.create_experiment("deleted"))
    tracker = MlflowTracker(describe(experiment="deleted"), sqlite_uri, tmp_path / "b")
    tracker.log_metrics({"a": 1.0}, 1)
    begin = time.monotonic()
    report = tracker.close("FINISHED")
    assert time.monotonic() - begin < 10
    assert report.unsent_metrics == 1
    assert report.error is not None
    assert "refused the run" in report.error
    assert "goes on untracked" in caplog.text


def test_a_run_is_sent_again_of_which_nobody_knows_what_the_store_has(sqlite_uri: str) -> None:
    run = describe(run_name="sent again")
    points = [Point("x", 1.0, 1, 64), Point("x", 2.0, 2, 128)]
    killed = RunStore(sqlite_uri)
    killed.send(Start(run, 1))
    killed.send(Points(points[:1]))  # it is killed before the parameters, and before anybody was told the id
    again = RunStore(sqlite_uri)
    for operation in (
        Start(replace(run, tried_at=1), 1),
        *parameter_batches(run),
        Points(points),
        Finish("FINISHED", 3),
    ):
        again.send(operation)
    assert again.run_id == killed.run_id and again.run_id is not None
    client = client_of(sqlite_uri)
    data = client.get_run(again.run_id).data
    assert data.params == {"seed": "1", "optimizer.lr": "0.0003"} and "resumed_with" not in data.tags
    assert [point.step for point in client.get_metric_history(again.run_id, "x")] == [64, 128]
    never_begun = RunStore(sqlite_uri)
    never_begun.send(Start(replace(describe(), tried_at=1), 1))
    assert never_begun.run_id not in (None, again.run_id)


RACERS = """
import os, sys
from pathlib import Path
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow.store.tracking.sqlalchemy_store  # once, so that the four start at the same moment
from ppolab.records.tracking import MlflowTracker, RunDescription

def race(name):
    run = RunDescription("race", name, {"n": name}, {})
    tracker = MlflowTracker(run, sys.argv[2], Path(sys.argv[1], name))
    tracker.log_metrics({"x": 1.0}, 1)
    return tracker.close("FINISHED", timeout=150.0)

children = []
for name in "0123":
    child = os.fork()
    if child == 0:
        report = race(name)
        os._exit(0 if report.error is None else 1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_four_processes_start_on_a_fresh_database(tmp_path: Path) -> None:
    uri = resolve_tracking_uri(None, tmp_path / "a b")
    command = [sys.executable, "-c", RACERS, str(tmp_path), uri]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0]\n", ""), "no failure, and no noise on stderr"
    client = client_of(uri)
    experiment = client.get_experiment_by_name("race")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["n"] for run in runs) == ["0", "1", "2", "3"]
    assert [run.data.metrics["x"] for run in runs] == [1.0] * 4


def test_missing_run_or_artifacts(sqlite_uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no tracking store"):
        find_run_artifacts(f"sqlite:///{tmp_path}/none.db", "0" * 32, tmp_path / "out")
    run_id = MlflowTracker(describe(), sqlite_uri, tmp_path / "b").close("FINISHED").run_id
    assert run_id is not None
    with pytest.raises(TrackingError, match="no run 0000"):
        find_run_artifacts(sqlite_uri, "0" * 32, tmp_path / "out")
    with pytest.raises(TrackingError, match="has no artifact folder"):
        find_run_artifacts(sqlite_uri, run_id, tmp_path / "out")
    with pytest.raises(TrackingError, match=r"cannot read run") as caught:
        find_run_artifacts("http://me:secret@127.0.0.1:1", run_id, tmp_path / "out")
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:pw@host:5000/x", "http://***@host:5000/x"),
        ("http://me:p@w@host", "http://***@host"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?user=me&password=***"),
        ("failed: https://t@a/b and https://c/d@e", "failed: https://***@a/b and https://c/d@e"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://me:it's@host:5000/x and http://a/b", "http://***@host:5000/x and http://a/b"),
        ("postgresql+psycopg2://me:p/w@host/db", "postgresql+psycopg2://***@host/db"),
        ("http://host/?access_token=a'b&x=1", "http://host/?access_token=***&x=1"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_resolve_tracking_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri(None, Path("outputs")) == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert resolve_tracking_uri("sqlite:///x.db", Path("outputs")) == f"sqlite:///{tmp_path}/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert resolve_tracking_uri(None, tmp_path) == "http://lab:5000"
    assert resolve_tracking_uri("postgresql+psycopg2://h/d", tmp_path) == "postgresql+psycopg2://h/d"
    for wrong in ("./mlruns", "file:///tmp/mlruns", "ftp://host"):
        with pytest.raises(ConfigError, match=r"logger\.tracking_uri"):
            resolve_tracking_uri(wrong, tmp_path)


def test_ui_command() -> None:
    assert ui_command("http://me:pw@lab:5000") == "open http://***@lab:5000"
    expected = "mlflow ui --workers 1 --backend-store-uri 'sqlite:////a b/mlflow.db'"
    assert ui_command("sqlite:////a b/mlflow.db") == expected


def test_environment_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "logger.tracking_uri=http://me:pw@lab"])
    tags = environment_tags()
    assert tags["command"] == "python train.py logger.tracking_uri=http://***@lab"
    assert tags["version.python"].startswith("3.")
    assert {"version.torch", "version.mlflow", "host", "platform"} <= tags.keys()
    assert all(tags.values())


def test_without_tracking_nothing_is_kept(tmp_path: Path) -> None:
    tracker = NoTracker()
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.log_artifact(tmp_path)
    report = tracker.close("FINISHED")
    assert (tracker.run_id, report.unsent_metrics, report.error) == (None, 0, None)


FORKER = """
import os, sys, time
from pathlib import Path
from ppolab.records.tracking import MlflowTracker, RunDescription
tracker = MlflowTracker(RunDescription("e", "n", {}, {}), "http://127.0.0.1:1", Path(sys.argv[1]))
child = os.fork()
if child == 0:
    tracker.log_metrics({"x": 1.0}, 1)
    begin = time.monotonic()
    report = tracker.close("FAILED")
    os._exit(0 if report.unsent_metrics == 0 and time.monotonic() - begin < 1 else 9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
tracker.log_metrics({"x": 1.0}, 1)
print(tracker.close("FINISHED", timeout=0.1).unsent_metrics)
"""


def test_forked_child_does_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKER, str(tmp_path / "backlog.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n1\n"
    assert len((tmp_path / "backlog.jsonl").read_text().splitlines()) == 3, "written once, by the parent"


def test_import_does_not_import_mlflow() -> None:
    code = "import sys, ppolab.records.tracking; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_server_killed_and_restarted_keeps_every_point_once(running: Server, tmp_path: Path) -> None:
    tracker = MlflowTracker(describe(), running.uri, tmp_path / "backlog.jsonl")
    wait_for(lambda: tracker.run_id is not None)
    step = 0

    def log_until(condition: Callable[[], bool]) -> None:
        nonlocal step
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            tracker.log_metrics({f"m{index}": step + index / 8 for index in range(8)}, step)
            step += 1
            time.sleep(0.02)

    started = time.monotonic()
    log_until(lambda: time.monotonic() > started + 2)
    running.kill()
    running.start()
    log_until(running.answers)
    report = tracker.close("FINISHED", timeout=PATIENCE)
    assert report.unsent_metrics == 0
    assert report.run_id is not None
    for key in ("m0", "m7"):
        assert steps_of(running.uri, report.run_id, key) == list(range(step))


def test_repeated_batch_is_stored_once(running: Server, sqlite_uri: str, tmp_path: Path) -> None:
    from mlflow.entities import Metric

    for uri in (running.uri, sqlite_uri):
        run_id = MlflowTracker(describe(), uri, tmp_path / "b").close("FINISHED").run_id
        assert run_id is not None
        batch = [Metric("x", value, 1, 1) for value in (0.5, math.nan, math.inf)]
        for _ in range(2):
            client_of(uri).log_batch(run_id, metrics=batch)
        assert len(steps_of(uri, run_id, "x")) == 3


def test_server_takes_artifacts_and_nonfinite_values(running: Server, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("weights")
    tracker = MlflowTracker(describe(), running.uri, tmp_path / "backlog.jsonl")
    tracker.log_metrics({"a": math.nan, "b": math.inf, "c": 1.0}, 5)
    tracker.log_artifact(tmp_path / "last.ckpt", "checkpoints")
    report = tracker.close("KILLED")
    assert report.error is None
    assert report.run_id is not None
    folder = find_run_artifacts(running.uri, report.run_id, tmp_path / "elsewhere")
    assert (folder / "last.ckpt").read_text() == "weights"
    data = client_of(running.uri).get_run(report.run_id)
    assert data.info.status == "KILLED"
    assert math.isnan(data.data.metrics["a"])
    assert data.data.metrics["c"] == 1.0


def test_server_down_at_start_then_started(running: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ppolab")
    port = free_port()
    tracker = MlflowTracker(describe(experiment="late"), f"http://127.0.0.1:{port}", tmp_path / "backlog.jsonl")
    for step in range(100):
        tracker.log_metrics({"loss": step / 7}, step)
    wait_for(lambda: "does not answer" in caplog.text)
    assert tracker.run_id is None
    with proxy_to(running.uri, 0.0, [], port):
        wait_for(lambda: tracker.run_id is not None)
        report = tracker.close("FINISHED")
    assert (report.unsent_metrics, report.unsent_artifacts, report.error) == (0, 0, None)
    assert report.run_id is not None
    assert steps_of(running.uri, report.run_id, "loss") == list(range(100))
    run = client_of(running.uri).get_run(report.run_id)
    assert run.data.params == {"seed": "1", "optimizer.lr": "0.0003"}
    assert len(client_of(running.uri).search_runs([run.info.experiment_id])) == 1
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1
    assert not (tmp_path / "backlog.jsonl").exists()


def test_lost_answers_duplicate_nothing(running: Server, tmp_path: Path) -> None:
    lost = ["experiments/create", "runs/create", "runs/log-batch", "runs/update"]
    with proxy_to(running.uri, 0.0, lost) as uri:
        tracker = MlflowTracker(describe(experiment="lossy"), uri, tmp_path / "backlog.jsonl")
        tracker.log_metrics({"a": 1.0}, 1)
        report = tracker.close("FINISHED")
    assert lost == []
    assert report.error is None
    assert report.run_id is not None
    client = client_of(running.uri)
    experiment = client.get_experiment_by_name("lossy")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (report.run_id, "FINISHED")
    assert run.data.params["seed"] == "1"
    assert steps_of(running.uri, report.run_id, "a") == [1]


def test_slow_server_does_not_block(running: Server, tmp_path: Path) -> None:
    with proxy_to(running.uri, 0.5, []) as uri:
        tracker = MlflowTracker(describe(), uri, tmp_path / "backlog.jsonl")
        for step in range(300):
            tracker.log_metrics({"loss": 1.0, "kl": 0.01}, step)
        assert tracker.run_id is None, "all were logged before the first request was answered"
        report = tracker.close("FINISHED")
    assert report.unsent_metrics == 0
    assert report.run_id is not None
    assert steps_of(running.uri, report.run_id, "kl") == list(range(300))
