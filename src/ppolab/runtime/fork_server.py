"""Fresh processes that start at once: forked from a server that has imported everything and done nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

STARTING_SECONDS = 10.0
"""How long a process that is to be interrupted may take to begin."""


@dataclass(frozen=True)
class Ended:
    """A process that is gone: what its function returned, or the traceback or signal that ended it."""

    key: int
    result: Any
    error: str | None


@dataclass(frozen=True)
class _Running:
    process: BaseProcess
    results: Connection
    alive: Connection  # the child says here that it can be interrupted; closed by this process' end, which it notices


class ProcessPool:
    """Up to `capacity` processes at a time; each runs one function and ends.

    Args:
        preload: modules that the server imports, once. They must not start threads.
    """

    def __init__(self, capacity: int, preload: Sequence[str]) -> None:
        self.capacity = capacity
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ppolab.own_group", *preload])
        with _search_path_for_children():
            forkserver.ensure_running()  # it imports while the sweep does its own first steps
        self._running: dict[int, _Running] = {}

    def start(
        self,
        key: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        output: Path,
        environment: dict[str, str],
    ) -> None:
        """Call `function(*arguments)` in a fresh process, whose terminal is the file `output`."""
        assert key not in self._running
        assert self.has_room
        results, theirs = self._context.Pipe(duplex=False)
        watched, alive = self._context.Pipe(duplex=True)
        process = self._context.Process(
            target=_child, args=(function, arguments, str(output), environment, theirs, watched), daemon=False
        )
        process.start()
        theirs.close()
        watched.close()
        self._running[key] = _Running(process, results, alive)

    def wait(self, seconds: float) -> list[Ended]:
        """Those that ended, as soon as one did, at the latest after so many seconds."""
        if not self._running:
            return []
        wait(
            [item for running in self._running.values() for item in (running.results, running.process.sentinel)],
            seconds,
        )
        ended = [
            key for key, running in self._running.items() if running.results.poll() or not running.process.is_alive()
        ]
        return [self._collect(key) for key in ended]

    def _collect(self, key: int) -> Ended:
        running = self._running.pop(key)
        answer: tuple[Any, str | None] | None = None
        with contextlib.suppress(EOFError, OSError):
            if running.results.poll():
                answer = running.results.recv()
        running.process.join()
        self._close(running)
        if answer is None:
            answer = None, f"the process ended with {_how(running.process.exitcode)}, without a result"
        return Ended(key, *answer)

    @staticmethod
    def _close(running: _Running) -> None:
        running.results.close()
        running.alive.close()

    def interrupt(self) -> None:
        """Ask every process to save and end, as Ctrl-C would."""
        for running in self._running.values():
            running.alive.poll(STARTING_SECONDS)  # the fork server ignores SIGINT, and so does a process just forked
            with contextlib.suppress(ProcessLookupError):
                if running.process.pid is not None:
                    os.kill(running.process.pid, signal.SIGINT)

    def stop(self) -> None:
        """End every process at once."""
        for running in self._running.values():
            self._close(running)  # each ends itself when it notices
        for running in self._running.values():
            running.process.join()
        self._running.clear()

    @property
    def has_room(self) -> bool:
        """Whether one more may be started."""
        return len(self._running) < self.capacity

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running


@contextmanager
def _search_path_for_children() -> Iterator[None]:
    """The fork server of Python 3.11 looks for what it preloads without this process's `sys.path`, and says nothing."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    output: str,
    environment: dict[str, str],
    results: Connection,
    parent: Connection,
) -> None:
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the sweep, which then interrupts its runs
    os.environ.update(environment)
    _redirect(output)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
        parent.send("ready")
        results.send((function(*arguments), None))
    except BaseException:
        told = traceback.format_exc()
        print(told, file=sys.stderr, flush=True)
        results.send((None, told))


def _end_with(parent: Connection) -> None:
    """A sweep that was killed cannot tell its runs; they end when its end of the pipe closes."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(1)


def _redirect(output: str) -> None:
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for an orderly end, and a second one for any; yields whether one came."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print("stopping: the runs save and end; once more to end at once", flush=True)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
