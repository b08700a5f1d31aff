"""Leave the process as a command found it, so that a command can be called like any function."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put `sys.path`, the environment variables and the root logger's handlers back after the block.

    Lightning, MuJoCo, Hydra and launchers set them, each for its own run.
    """
    path, variables, root = list(sys.path), dict(os.environ), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update(variables)
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
