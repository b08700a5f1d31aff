"""Call the commands as functions, and look at them as `commands` looks at the real ones."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from absl import logging as absl_logging
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from hydra.core.global_hydra import GlobalHydra

from commands import Answer

# Setting up logging closes all handlers, and this one would close the stream in which pytest captures what is printed.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


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
    return {
        "argv": list(sys.argv),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": ([handler for handler in root.handlers if "pytest" not in type(handler).__module__], root.level),
        "folder": Path.cwd(),
        "hydra": (utils._save_config, ConfigLoaderImpl.load_configuration, GlobalHydra.instance().hydra),
    }
