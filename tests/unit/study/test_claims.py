"""Storage, and trials that several owners share."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from study_parts import SPACE, opened, settings

from ppolab.errors import ConfigError
from ppolab.study.claims import Owner
from ppolab.study.run_study import open_study
from ppolab.study.storage import open_storage


def test_half_a_record_is_dropped(tmp_path: Path) -> None:
    storage = open_storage(None, "s", tmp_path)
    study = open_study(settings(), SPACE, storage)
    study.tell(study.ask(), 1.0)
    journal = tmp_path / "s.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id"')  # a writer that was killed
    study.tell(study.ask(), 2.0)
    again = open_study(settings(), SPACE, open_storage(None, "s", tmp_path))
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://host/db", "postgresql"),
        ("postgresql+psycopg2://user:secret@127.0.0.1:1/none", "cannot be opened|driver is missing"),
    ],
)
def test_storage_that_cannot_be_used(url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_storage(url, "s", tmp_path)
    assert "secret" not in str(caught.value)


def test_trial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    first, _, _ = opened(tmp_path)
    second, _, _ = opened(tmp_path)
    assert first.claim(1) is not None
    assert second.claim(1) is None


def test_owner_knows_its_process() -> None:
    mine = Owner.of_this_process()
    assert not mine.is_gone()
    assert not replace(mine, started=mine.started + 1).is_gone(), "the clock was corrected"
    assert replace(mine, started=mine.started + 60).is_gone(), "another process with the same number"
    assert not Owner("elsewhere", mine.pid, 0).is_gone(), "cannot be known"


def test_owner_on_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: only psutil knows. A process that may not be looked at is taken to live."""

    def no_file(*args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError

    class Known:
        def __init__(self, pid: int) -> None:
            if pid == 3:
                raise psutil.NoSuchProcess(pid)

        def status(self) -> str:
            return str(psutil.STATUS_RUNNING)

        def create_time(self) -> float:
            return 1000.5

    class Hidden(Known):
        def create_time(self) -> float:
            raise psutil.AccessDenied(2)

    monkeypatch.setattr(Path, "read_text", no_file)
    monkeypatch.setattr("ppolab.study.claims.psutil.Process", Known)
    here = socket.gethostname()
    assert not Owner(here, 2, 1000.5).is_gone()
    assert Owner(here, 2, 500.0).is_gone()
    assert Owner(here, 3, 1000.5).is_gone()
    assert Owner(here, 2, 4711).is_gone(), "as an earlier version wrote it, in ticks since the system's start"
    monkeypatch.setattr("ppolab.study.claims.psutil.Process", Hidden)
    assert not Owner(here, 2, 1000.5).is_gone()
