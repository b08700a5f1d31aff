"""What a block changes in the process is as before after it, also after an error."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import warnings
from pathlib import Path

import pytest

from ppolab.runtime.process_state import process_state_kept

SETUP = {
    "version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR", "handlers": ["new"]},
    "handlers": {"new": {"class": "logging.NullHandler"}},
    "loggers": {"ppolab": {"level": "DEBUG"}, "a.library": {"level": "CRITICAL", "propagate": False}},
}  # fmt: skip


def state() -> tuple[object, ...]:
    loggers = [logging.getLogger(name) for name in (None, "ppolab", "a.library")]
    told = [(each.level, list(each.handlers), each.propagate, each.disabled) for each in loggers]
    return told, list(sys.path), dict(os.environ), list(warnings.filters)


def test_all_is_put_back_after_an_error(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "callers.log", mode="w")
    logging.getLogger("a.library").addHandler(handler)
    before = state()
    with pytest.raises(ZeroDivisionError), process_state_kept():
        logging.config.dictConfig(SETUP)
        sys.path.append("elsewhere")
        os.environ["NEW"] = "1"
        os.environ.pop("HOME", None)
        warnings.filterwarnings("ignore", message="nothing")
        assert state() != before
        raise ZeroDivisionError
    assert state() == before
    logging.getLogger("a.library").warning("still open")  # a handler that was closed would not open its file again
    logging.getLogger("a.library").removeHandler(handler)
    handler.close()
    assert (tmp_path / "callers.log").read_text() == "still open\n"


def test_a_handler_of_the_block_is_closed(tmp_path: Path) -> None:
    with process_state_kept():
        handler = logging.FileHandler(tmp_path / "run.log")
        logging.getLogger().addHandler(handler)
    assert handler not in logging.getLogger().handlers
    assert handler.stream is None
