"""Records that one process hands to another: what arrives, what comes back, and what a run that is gone leaves."""

from __future__ import annotations

import json
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from ppolab.records.run_folder import RunFolder
from ppolab.records.tracking import NotedTracker, NoTracker, RelayedTracker, RunDescription, TrackingRelay
from ppolab.records.tracking.operations import Artifact, CloseReport, Finish, Tags
from ppolab.records.tracking.relay import _handed_over
from ppolab.records.tracking.tracker import Logged, MlflowTracker
from ppolab.records.tracking.unsent import unsent_runs

RUN = RunDescription(experiment="e", run_name="trial-0003", parameters={"seed": 1}, tags={})


class Store:
    """Takes the place of `MlflowTracker`; it has answered at once."""

    made: ClassVar[list[Store]] = []
    run_id, page = "id-7", "http://page"
    error: ClassVar[str | None] = None

    def __init__(self, run: RunDescription, uri: str, backlog_path: Path, parent: Any = None) -> None:
        self.run, self.uri, self.parent = run, uri, parent
        self.entries: list[Any] = []
        self.finish: Finish | None = None
        Store.made.append(self)

    def take(self, entry: Any) -> None:
        self.entries.append(entry)

    def close_as(self, finish: Finish, timeout: float = 30.0) -> CloseReport:
        self.finish = finish
        return CloseReport(self.run_id, 0, 0, Store.error)

    def give_up(self) -> None:
        raise AssertionError("nobody has asked for it")


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "made", [])
    monkeypatch.setattr(Store, "error", None)
    monkeypatch.setattr("ppolab.records.tracking.relay.MlflowTracker", Store)


def test_everything_arrives_in_order_and_the_id_comes_back(tmp_path: Path) -> None:
    relay, parent = TrackingRelay(), NoTracker()
    connection = relay.connection(parent)
    tracker = RelayedTracker(RUN, "sqlite:///x", tmp_path / "tracking_backlog.jsonl", connection)
    tracker.log_metrics({"loss": 1.0}, 64)
    tracker.set_tags({"a": "b"})
    tracker.log_artifact(tmp_path / "config.yaml")
    assert tracker.wait_for_id(10.0) == "id-7"
    assert tracker.page == "http://page"
    report = tracker.close("FINISHED")
    assert (report.run_id, report.unsent_metrics, report.error) == ("id-7", 0, None)
    tracker.log_metrics({"loss": 2.0}, 128)  # too late, and dropped
    connection.close()  # as the end of the process does
    relay.close()
    (store,) = Store.made
    assert (store.run, store.uri, store.parent) == (RUN, "sqlite:///x", parent)
    assert [type(entry) for entry in store.entries] == [Logged, Tags, Artifact]
    assert store.entries[0].metrics == {"loss": 1.0} and store.entries[0].step == 64
    assert store.finish is not None and store.finish.status == "FINISHED"


def test_a_run_that_ends_before_anything_is_read_loses_nothing(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    tracker = RelayedTracker(RUN, "sqlite:///x", tmp_path / "tracking_backlog.jsonl", theirs)
    tracker.set_tags({"a": "b"})
    tracker.close("FINISHED")
    theirs.close()
    ours.recv()
    store = Store(RUN, "sqlite:///x", tmp_path)
    assert _handed_over(ours, cast(MlflowTracker, store)).status == "FINISHED"
    assert store.entries == [Tags({"a": "b"})]


def ended_run(folder: Path, relay: TrackingRelay) -> None:
    """Leave what a run leaves whose process has ended, and whose records `relay` has taken."""
    folder.mkdir()
    connection = relay.connection(NoTracker())
    tracker = RelayedTracker(RUN, "sqlite:///x", folder / "tracking_backlog.jsonl", connection)
    (folder / "metrics.csv").write_text("step,loss\n64,1.5\n128,0.5\n")
    RunFolder(folder).write_record(None, "sqlite:///x", finished=True, name="trial-0003")
    tracker.log_metrics({"loss": 1.5}, 64)
    tracker.set_tags({"a": "b"})
    tracker.log_artifact(folder / "metrics.csv")
    tracker.close("PRUNED")
    connection.close()


def test_what_a_store_lacks_of_a_run_that_has_ended_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Store, "error", "the store is away")
    folder, relay = tmp_path / "trial-0003", TrackingRelay()
    ended_run(folder, relay)
    relay.close()
    assert "the store lacks records of 1 runs; the same command sends them again" in caplog.messages
    monkeypatch.setattr(Store, "error", None)
    parent, again = NoTracker(), TrackingRelay()
    again.send_again(unsent_runs(tmp_path), "sqlite:///y", parent)
    again.close()
    first, second = Store.made
    assert second.run.start_token == first.run.start_token and second.run.tried_at is not None
    assert (second.run.resume_run_id, second.uri, second.parent) == ("id-7", "sqlite:///y", parent)
    points = [(entry.step, entry.metrics) for entry in second.entries if isinstance(entry, Logged)]
    assert points == [(64, {"loss": 1.5}), (128, {"loss": 0.5})]
    assert second.entries[2:] == [Tags({"a": "b"}), Artifact(str(folder / "metrics.csv"), "")]
    assert second.finish == first.finish and second.finish is not None and second.finish.status == "PRUNED"
    again.send_again(unsent_runs(tmp_path), "sqlite:///y", parent)  # nothing is left to send
    again.close()
    assert len(Store.made) == 2


def test_a_run_says_what_the_store_may_lack_until_it_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = threading.Event()

    def slow(self: Store, finish: Finish, timeout: float = 30.0) -> CloseReport:
        assert sending.wait(10.0)
        return CloseReport("id-7", 0, 0, None)

    monkeypatch.setattr(Store, "close_as", slow)
    folder, relay = tmp_path / "trial-0003", TrackingRelay()
    ended_run(folder, relay)
    assert [each.name for each in unsent_runs(tmp_path)] == ["trial-0003"]
    elsewhere = TrackingRelay()
    elsewhere.send_again(unsent_runs(tmp_path), "sqlite:///y", NoTracker())  # while the first one sends
    elsewhere.close()
    sending.set()
    relay.close()
    assert unsent_runs(tmp_path) == [] and len(Store.made) == 1


def killed_while_sending(folder: Path, *, keeps_metrics: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a run leaves that sends its records itself, and whose process is killed meanwhile."""

    def killed(self: Store, finish: Finish, timeout: float = 30.0) -> CloseReport:
        raise SystemExit

    run = RunDescription(experiment="e", run_name="mine", parameters={}, tags={}, parent_run_id="id-of-grid")
    tracker = NotedTracker(
        Store(run, "sqlite:///x", folder / "tracking_backlog.jsonl"), run, folder, keeps_metrics=keeps_metrics
    )
    tracker.log_metrics({"loss": 1.5}, 64)
    tracker.set_tags({"a": "b"})
    with monkeypatch.context() as patched:
        patched.setattr(Store, "close_as", killed)
        with pytest.raises(SystemExit):
            tracker.close("FINISHED")


@pytest.mark.parametrize("keeps_metrics", [True, False])
def test_what_a_run_could_not_send_itself_the_sweep_sends(
    keeps_metrics: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "0"
    killed_while_sending(folder, keeps_metrics=keeps_metrics, monkeypatch=monkeypatch)
    assert unsent_runs(tmp_path) == [folder]
    if not keeps_metrics:
        (folder / "metrics.csv").write_text("step,loss\n64,1.5\n")
    relay = TrackingRelay()
    relay.send_again(unsent_runs(tmp_path), "sqlite:///x", NoTracker())
    relay.close()
    _, again = Store.made
    assert again.run.start_token == Store.made[0].run.start_token and again.run.parent_run_id == "id-of-grid"
    assert [(entry.step, entry.metrics) for entry in again.entries if isinstance(entry, Logged)] == [
        (64, {"loss": 1.5})
    ]
    assert Tags({"a": "b"}) in again.entries
    assert again.finish is not None and again.finish.status == "FINISHED"
    assert folder.exists() == (not keeps_metrics), "a folder of nothing else goes"
    assert unsent_runs(tmp_path) == []


def test_a_run_that_sent_everything_notes_nothing(tmp_path: Path) -> None:
    run = RunDescription(experiment="e", run_name="mine", parameters={}, tags={})
    (tmp_path / "config.yaml").touch()
    tracker = NotedTracker(Store(run, "sqlite:///x", tmp_path / "tracking_backlog.jsonl"), run, tmp_path)
    assert tracker.close("FINISHED").error is None
    assert tracker.close("KILLED").error is None and Store.made[0].finish is not None
    assert Store.made[0].finish.status == "FINISHED", "the second call does nothing"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_relay_that_is_given_up_leaves_what_has_not_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closing, given_up = threading.Event(), threading.Event()

    def slow(self: Store, finish: Finish, timeout: float = 30.0) -> CloseReport:
        closing.set()
        assert given_up.wait(10.0)
        return CloseReport("id-7", 0, 0, "the wait has ended")

    monkeypatch.setattr(Store, "close_as", slow)
    monkeypatch.setattr(Store, "give_up", lambda _: given_up.set())
    relay = TrackingRelay()
    ended_run(tmp_path / "trial-0003", relay)
    assert closing.wait(10.0)
    relay.give_up()
    relay.close()
    assert [each.name for each in unsent_runs(tmp_path)] == ["trial-0003"]


def test_a_run_whose_process_is_gone_is_marked_as_killed(tmp_path: Path) -> None:
    relay = TrackingRelay()
    connection = relay.connection(NoTracker())
    tracker = RelayedTracker(RUN, "sqlite:///x", tmp_path / "tracking_backlog.jsonl", connection)
    assert tracker.wait_for_id(10.0) == "id-7"
    connection.close()
    relay.close()
    assert Store.made[0].finish is not None and Store.made[0].finish.status == "KILLED"


def test_a_process_that_ends_before_its_run_leaves_nothing() -> None:
    relay = TrackingRelay()
    relay.connection(NoTracker()).close()
    relay.close()
    assert Store.made == []


def test_an_id_that_came_too_late_is_written_down_afterwards(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_record(None, "sqlite:///x", finished=True, name="trial-0003")
    folder.note_run_id("id-7")
    assert json.loads(folder.record.read_text()) == {
        "run_id": "id-7", "tracking_uri": "sqlite:///x", "finished": True, "name": "trial-0003",
    }  # fmt: skip
    folder.note_run_id("another")
    assert folder.run_id() == "id-7"
