"""The real command in processes that need not import anything first, so that many can be killed in little time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppolab.runtime.fork_server import EndedProcess, ProcessPool

PRELOADED = ("hydra_plugins.hydra_ppolab._preload", "hydra_plugins.hydra_ppolab._preload_database", "forked_commands")


def train_forked(folder: str, arguments: tuple[str, ...]) -> int:
    """`python src/train.py ARGUMENTS` typed in `folder`; its exit code."""
    from ppolab.cli.commands import train

    os.chdir(folder)
    sys.argv = ["train.py", *arguments]
    try:
        train()
    except SystemExit as end:
        return int(end.code or 0)


class ForkedCommand:
    """One such process; its terminal is `output`."""

    def __init__(self, pool: ProcessPool, folder: Path, arguments: tuple[str, ...], output: Path) -> None:
        self._pool = pool
        self._output = output
        pool.start(0, train_forked, (str(folder), arguments), output, {})
        self._pid = pool._running[0].process.pid
        self._ended: EndedProcess | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        self._look(0)
        return self._ended is not None

    def kill(self) -> bool:
        """Kill -9; whether it was there still."""
        if not self.has_ended and self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
        return self.end() is None

    def end(self, seconds: float = 120) -> int | None:
        """Its exit code, once it has ended; None if it was killed."""
        self._look(seconds)
        assert self._ended is not None, f"still running: {self._output.read_text()}"
        if self._ended.error and "signal SIGKILL" in self._ended.error:
            return None
        assert self._ended.error is None, self._ended.error
        return int(self._ended.result)

    def _look(self, seconds: float) -> None:
        if self._ended is None:
            self._ended = next(iter(self._pool.wait(seconds)), None)


@contextmanager
def command_pool() -> Iterator[ProcessPool]:
    """Where forked commands are started, one at a time."""
    pool = ProcessPool(1, PRELOADED)
    try:
        yield pool
    finally:
        pool.stop()
