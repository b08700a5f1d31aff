"""Let commands run in this process: import once what takes seconds, and forbid what would start a process."""

from __future__ import annotations

import importlib

import pytest

from ppolab.config.schema import EnvConfig
from ppolab.envs.envpool_import import register_family
from ppolab.runtime.fast_imports import import_lightning, lean_imports
from ppolab.runtime.fork_server import ProcessPool

HEAVY = (
    "ppolab.training.run",
    "ppolab.study.run_study",
    "gymnasium.envs.mujoco",
    "gymnasium.envs.classic_control",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "rich.progress",
    "torch._dynamo",
)


@pytest.fixture(scope="session", autouse=True)
def _imports() -> None:
    with lean_imports():
        import_lightning()
    for name in HEAVY:
        importlib.import_module(name)
    register_family(EnvConfig(id="CartPole-v1"))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: object) -> None:
        raise AssertionError("this would start a process")

    monkeypatch.setattr(ProcessPool, "__init__", refuse)
