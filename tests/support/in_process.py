"""Call the commands as functions, and look at them as `commands` looks at the real ones."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from commands import Answer
from ppolab.envs.envpool_import import import_usual
from ppolab.runtime.fast_imports import import_lightning, lean_imports

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


def import_heavy() -> None:
    """Import once what takes seconds."""
    with lean_imports():
        import_lightning()
    for name in HEAVY:
        importlib.import_module(name)
    import_usual()


def call(
    main: Callable[[Sequence[str]], int], folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object
) -> Answer:
    """`main(arguments)` in `folder`: its exit code, and what it has printed."""
    capsys.readouterr()
    started = time.perf_counter()
    with chdir(folder):
        code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return Answer(code, printed.out, printed.err, time.perf_counter() - started)


def process_state() -> dict[str, Any]:
    """All that a command might leave changed."""
    root = logging.getLogger()
    named = [logging.getLogger(name) for name in ("ppolab", "pytorch_lightning", "lightning_fabric")]
    return {
        "argv": list(sys.argv),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": ([handler for handler in root.handlers if "pytest" not in type(handler).__module__], root.level),
        "loggers": [(each.level, list(each.handlers), each.propagate, each.disabled) for each in named],
        "filters": list(warnings.filters),
        "folder": Path.cwd(),
        "hydra": (utils._save_config, ConfigLoaderImpl.load_configuration, GlobalHydra.instance().hydra),
        "hydra's versions": (version.getbase(), utils.JobRuntime.instance().get("name"), HydraConfig.instance().cfg),
    }
