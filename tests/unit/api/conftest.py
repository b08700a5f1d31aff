"""Import once what takes seconds, and let every test write into a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import import_heavy


@pytest.fixture(scope="session", autouse=True)
def _imports() -> None:
    import_heavy()


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
