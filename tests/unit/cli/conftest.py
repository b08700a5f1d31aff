"""Let commands run in this process: import once what takes seconds, and forbid what would start a process."""

from __future__ import annotations

from multiprocessing import forkserver

import pytest
from in_process import import_heavy

from ppolab.runtime.fork_server import ProcessPool


@pytest.fixture(scope="session", autouse=True)
def _imports() -> None:
    import_heavy()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: object) -> None:
        raise AssertionError("this would start a process")

    monkeypatch.setattr(forkserver, "ensure_running", lambda: None)  # a sweep starts it before its last checks
    monkeypatch.setattr(ProcessPool, "start", refuse)
