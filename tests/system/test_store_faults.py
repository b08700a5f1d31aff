"""Whole runs whose tracking store is away, slow, or shared by others, and what becomes of a password in its address."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import PATIENCE, Server, client_of, proxy_to, steps_of, wait_for
from troubles import SMALL, assert_tracked, only_run, run_id_of, store_of

from commands import Answer, assert_one_line, ended, metric_rows, run_folders, series, start_training, train_together

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

SECRET = "hunter2"
RUN = ("env=cartpole", *SMALL)


@dataclass(frozen=True)
class Stores:
    """Runs that wait for their stores while other tests go on."""

    server: Server
    slow_uri: str
    slow: subprocess.Popen[str]
    away: subprocess.Popen[str]
    folder: Path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("stores")
    for name in ("slow", "away", "server"):
        (folder / name).mkdir()
    server = Server(folder / "server")
    server.start()
    wait_for(server.answers, PATIENCE)
    with socket.socket() as unused, proxy_to(server.uri, 5.0, []) as uri:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        slow_uri = uri.replace("//", f"//me:{SECRET}@")
        slow = start_training(folder / "slow", *RUN, f"logger.tracking_uri={slow_uri}")
        nowhere = f"http://me:{SECRET}@127.0.0.1:{unused.getsockname()[1]}"
        away = start_training(folder / "away", *RUN, MLFLOW_TRACKING_URI=nowhere)
        yield Stores(server, slow_uri, slow, away, folder)
        for process in (slow, away):
            process.kill()
            process.communicate()
    server.kill()


# --- one database for several runs -----------------------------------------------------------------------------------


def assert_all_tracked(folder: Path, count: int) -> None:
    runs = run_folders(folder)
    assert len({run_id_of(run) for run in runs}) == len(runs) == count
    for run in runs:
        assert not (run / "tracking_backlog.jsonl").exists()
        assert_tracked(run, store_of(folder), "FINISHED")


def test_four_runs_at_once_share_a_new_database(stores: Stores, tmp_path: Path) -> None:
    answers = train_together(tmp_path, 4, **{f"run{seed}": (*RUN, f"seed={seed}") for seed in range(4)})
    assert [answer.code for answer in answers.values()] == [0] * 4, answers
    assert_all_tracked(tmp_path, 4)


@pytest.mark.slow
def test_four_runs_at_once_share_a_database_for_ten_minutes(tmp_path: Path) -> None:
    began, rounds = time.monotonic(), 0
    while time.monotonic() < began + 600:
        settings = (
            "total_steps=6000",
            "checkpoint_interval=2000",
            "trainer.threads=1",
            "rollout_steps=4",
            "minibatch_size=16",
        )
        commands = {f"run{seed}": (*RUN, *settings, f"seed={4 * rounds + seed}") for seed in range(4)}
        answers = train_together(tmp_path, 4, **commands)
        assert [answer.code for answer in answers.values()] == [0] * 4, answers
        rounds += 1
    assert_all_tracked(tmp_path, 4 * rounds)


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def away(stores: Stores) -> tuple[Path, Answer]:
    answer = ended(stores.away)
    return only_run(stores.folder / "away"), answer


def test_a_server_that_is_away_for_a_whole_run_costs_half_a_minute(away: tuple[Path, Answer]) -> None:
    run, answer = away
    assert answer.code == 0, answer.err
    assert "Traceback" not in answer.err
    assert answer.err.count("does not answer; training goes on, records are kept and sent later") == 1
    assert "they are kept in" in answer.err.splitlines()[-1]
    records = [json.loads(line) for line in (run / "tracking_backlog.jsonl").read_text().splitlines()]
    points = [point for record in records if record["operation"] == "metrics" for point in record["points"]]
    steps = [point["step"] for point in points if point["key"] == "loss/value"]
    assert steps == list(series(run, "loss/value"))
    assert records[-1]["status"] == "FINISHED"


def test_what_a_server_missed_comes_with_the_resumed_run(away: tuple[Path, Answer], stores: Stores) -> None:
    run, _ = away
    uri = stores.server.uri.replace("//", f"//me:{SECRET}@")
    answer = ended(start_training(run.parents[2], f"resume={run}", "total_steps=1152", MLFLOW_TRACKING_URI=uri))
    assert answer.code == 0, answer.err
    assert_tracked(run, stores.server.uri, "FINISHED")
    assert SECRET not in text_below(run.parents[2]) + answer.err + answer.out


@pytest.fixture(scope="module")
def slow(stores: Stores) -> tuple[Path, Answer]:
    answer = ended(stores.slow, 300)
    return only_run(stores.folder / "slow"), answer


def test_a_server_that_takes_five_seconds_for_each_request_gets_everything(
    slow: tuple[Path, Answer], stores: Stores
) -> None:
    run, answer = slow
    assert answer.code == 0, answer.err
    seconds = [float(row["time/total"]) for row in metric_rows(run) if row["time/total"]]
    assert seconds[-1] < 40, "training did not wait"
    assert_tracked(run, stores.server.uri, "FINISHED")
    client = client_of(stores.server.uri)
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {
        file.path for file in client.list_artifacts(run_id_of(run))
    }


# --- passwords -------------------------------------------------------------------------------------------------------


def text_below(folder: Path) -> str:
    """Everything that files below a folder hold, hidden ones included."""
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_a_password_in_the_address_of_the_store_stays_in_memory(slow: tuple[Path, Answer], stores: Stores) -> None:
    run, answer = slow
    text = text_below(stores.folder)
    assert "***@127.0.0.1" in (run / "config.yaml").read_text()
    assert "***@127.0.0.1" in (run / ".hydra/overrides.yaml").read_text()
    assert "***@127.0.0.1" in json.loads((run / "run.json").read_text())["tracking_uri"]
    assert SECRET not in text + answer.err + answer.out


def test_a_resumed_run_asks_for_the_password_again(slow: tuple[Path, Answer], stores: Stores) -> None:
    run, _ = slow
    workspace = run.parents[2]
    refused = ended(start_training(workspace, f"resume={run}", "total_steps=1152"))
    assert_one_line(refused, "logger.tracking_uri=http://***@127.0.0.1", "set MLFLOW_TRACKING_URI")
    direct = stores.server.uri.replace("//", f"//me:{SECRET}@")
    steps = len(steps_of(stores.server.uri, run_id_of(run), "loss/value"))
    answer = ended(start_training(workspace, f"resume={run}", "total_steps=1152", MLFLOW_TRACKING_URI=direct))
    assert answer.code == 0, answer.err
    assert len(steps_of(stores.server.uri, run_id_of(run), "loss/value")) == steps + 2
    assert SECRET not in text_below(workspace) + answer.err + answer.out


def test_a_mistake_beside_a_password_does_not_show_it(tmp_path: Path) -> None:
    uri = f"http://me:{SECRET}@127.0.0.1:1"
    commands = {
        "unreadable": (*RUN, f"logger.tracking_uri={uri}{{"),
        "scheme": (*RUN, f"logger.tracking_uri=ftp://me:{SECRET}@127.0.0.1"),
        "trace": (*RUN, f"logger.tracking_uri={uri}", "clip=2"),
        "sweep": ("-m", *RUN, f"logger.tracking_uri={uri}", "clip=0.1,2"),
        "study": ("-m", "env=cartpole", f"storage=postgresql://me:{SECRET}@127.0.0.1:1/db", "clip=interval(0.1,0.2)"),
    }
    for name, answer in train_together(tmp_path, **commands).items():
        assert answer.code == 2, (name, answer.err)
        assert_one_line(answer)
        assert SECRET not in answer.err
    assert SECRET not in text_below(tmp_path)
