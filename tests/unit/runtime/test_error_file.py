"""A rank that must end at once leaves its reason in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ppolab.runtime.error_file import ERROR_FILE, read_error, write_error
from ppolab.runtime.fork_server import EndedProcess, ProcessPool
from ppolab.runtime.rank_launcher import _LaunchedRanks
from ppolab.runtime.ranks import Rank
from ppolab.training import watchdog


def test_a_problem_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "process1.error"))
    write_error("environment 3 hängt")
    assert read_error(tmp_path / "process1.error") == "environment 3 hängt"
    assert [path.name for path in tmp_path.iterdir()] == ["process1.error"]


def test_nothing_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ERROR_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    write_error("a problem")
    assert list(tmp_path.iterdir()) == []
    assert read_error(tmp_path / "process1.error") is None


def test_a_folder_that_is_gone_does_not_hide_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "gone/process1.error"))
    write_error("a problem")
    assert read_error(tmp_path / "gone/process1.error") is None


def test_the_watchdog_leaves_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "process1.error"))
    monkeypatch.setattr(os, "_exit", codes.append)
    watchdog.end_at_once("no environment has answered", 3)
    assert codes == [3]
    assert read_error(tmp_path / "process1.error") == "no environment has answered"


class FakePool:
    """Ranks that end as they are told to."""

    def __init__(self, *ended: EndedProcess) -> None:
        self.ended = list(ended)
        self.environment: dict[str, str] = {}

    def start(self, _key: int, _function: object, _arguments: object, _log: Path, environment: dict[str, str]) -> None:
        self.environment = environment

    def wait(self, _seconds: float) -> list[EndedProcess]:
        return [self.ended.pop()] if self.ended else []


def launched(folder: Path, *ended: EndedProcess) -> _LaunchedRanks:
    pool: ProcessPool = FakePool(*ended)  # type: ignore[assignment]
    return _LaunchedRanks(pool, 2, folder)


KILLED = "the process ended with signal SIGKILL, without a result"
REASONS: dict[str, tuple[EndedProcess, str | None, str | None]] = {
    "returned": (EndedProcess(1, "the simulator is on fire", None), None, "the simulator is on fire"),
    "left a file": (EndedProcess(1, None, "exit code 1, without a result"), "it hangs", "it hangs"),
    "raised": (EndedProcess(1, None, "Traceback\n  in line 3\nValueError: 5\n"), None, "ValueError: 5"),
    "killed": (EndedProcess(1, None, KILLED), None, KILLED),
    "without a problem": (EndedProcess(1, None, None), None, None),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_of_a_rank(name: str, tmp_path: Path) -> None:
    ended, left, reason = REASONS[name]
    (tmp_path / "process1.log").write_text("ppolab: not this line\n")
    if left:
        (tmp_path / "process1.error").write_text(left)
    problem = launched(tmp_path, ended).problem(1.0)
    assert problem == (reason and f"process 1 of 2: {reason}; its output is in {tmp_path / 'process1.log'}")


def test_the_error_of_an_earlier_run_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "process1.error").write_text("of the run that is resumed")
    ranks = launched(tmp_path)
    ranks.start(Rank(1, 1, 0, 2), None, lambda *_: None, {"A": "1"})  # type: ignore[arg-type]
    assert not (tmp_path / "process1.error").exists()
    assert ranks.pool.environment == {"A": "1", ERROR_FILE: str(tmp_path / "process1.error")}  # type: ignore[attr-defined]
