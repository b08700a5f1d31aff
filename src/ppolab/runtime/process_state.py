"""Leave the process as a command found it, so that a command can be called like any function."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OURS = "ppolab"
"""The logger whose level a command sets, whether or not anybody has asked for it before."""


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put `sys.path`, the environment variables, the loggers and the warnings' filters back after the block.

    Lightning, MuJoCo, Hydra and launchers set them, each for its own run.
    """
    path, variables = list(sys.path), dict(os.environ)
    try:
        with warnings.catch_warnings(), _loggers_kept():
            yield
    finally:
        sys.path[:] = path
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update(variables)


@contextmanager
def _loggers_kept() -> Iterator[None]:
    """Put all loggers back as they were, and keep their handlers open, which setting up logging would close."""
    logging.getLogger(OURS)
    manager = logging.getLogger().manager
    loggers = [logging.getLogger(), *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    states = [(each, list(each.handlers), each.level, each.propagate, each.disabled) for each in loggers]
    known, by_name = list(logging._handlerList), dict(logging._handlers)  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        before = {handler for _, handlers, *_ in states for handler in handlers}
        for logger, handlers, level, propagate, disabled in states:
            for handler in logger.handlers:
                if handler not in before:
                    handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
        logging._handlerList[:0] = known  # type: ignore[attr-defined]
        logging._handlers.update(by_name)  # type: ignore[attr-defined]
