"""Start fresh processes at once: fork them from a server that has imported everything and done nothing else."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

STARTING_SECONDS = 10.0
"""How long a process that is to be interrupted may take to begin."""


@dataclass(frozen=True)
class EndedProcess:
    """Hold what a process that is gone has left.

    Attributes:
        key: the number that it was started under.
        result: what its function returned. error: the traceback or the signal that ended it; None if it returned.
        seconds: how long it ran.
    """

    key: int
    result: Any
    error: str | None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class _Running:
    process: BaseProcess
    results: Connection
    alive: Connection  # the child says here that it can be interrupted, and ends when this end closes
    started: float


class ProcessPool:
    """Run up to `capacity` processes at a time; each calls one function and ends.

    Args:
        capacity: number of processes at a time.
        preload: modules that the server imports, once. They must not start threads.
    """

    def __init__(self, capacity: int, preload: Sequence[str]) -> None:
        self.capacity = capacity
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ppolab.runtime.fork_server_group", *preload])
        with _search_path_for_children():
            forkserver.ensure_running()  # it imports while the sweep does its own first steps
        self._running: dict[int, _Running] = {}
        self._leaving: list[_Running] = []

    def start(
        self,
        key: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        output: Path,
        environment: dict[str, str],
    ) -> None:
        """Call `function(*arguments)` in a fresh process; what it prints goes to the file `output`.

        Args:
            key: a number that no running process has.
            environment: variables to set there.
        """
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
        self._running[key] = _Running(process, results, alive, time.monotonic())

    def wait(self, seconds: float) -> list[EndedProcess]:
        """Return the processes that have ended, as soon as one has, at the latest after `seconds`.

        One whose function has returned counts as ended, though the system may still be taking it apart.
        """
        self._leaving = [running for running in self._leaving if not self._is_gone(running)]
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

    def _collect(self, key: int) -> EndedProcess:
        running = self._running.pop(key)
        answer: tuple[Any, str | None, float] | None = None
        with contextlib.suppress(EOFError, OSError):
            if running.results.poll():
                answer = running.results.recv()
        if answer is None:
            running.process.join()
            reason = f"the process ended with {_exit_reason(running.process.exitcode)}, without a result"
            answer = None, reason, time.monotonic() - running.started
        self._leaving.append(running)
        return EndedProcess(key, *answer)

    def _is_gone(self, running: _Running) -> bool:
        if running.process.is_alive():
            return False
        self._close(running)
        return True

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
        under_way = [*self._running.values(), *self._leaving]
        for running in under_way:
            self._close(running)  # each ends itself when it notices
        for running in under_way:
            running.process.join()
        self._running.clear()
        self._leaving.clear()

    @property
    def has_room(self) -> bool:
        """Return whether one more may be started."""
        return len(self._running) < self.capacity

    @property
    def is_idle(self) -> bool:
        """Return whether no process runs."""
        return not self._running


@contextmanager
def _search_path_for_children() -> Iterator[None]:
    """Hand `sys.path` to the fork server: Python 3.11's looks for what it preloads without it, and says nothing."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _exit_reason(code: int | None) -> str:
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
    began = time.monotonic()
    gc.freeze()  # a collection would write to all that the server has imported, which the processes share until then
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the sweep, which then interrupts its runs
    os.environ.update(environment)
    _redirect(output)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
        parent.send("ready")
        result = function(*arguments)
        results.send((result, None, time.monotonic() - began))
    except BaseException:
        trace = traceback.format_exc()
        print(trace, file=sys.stderr, flush=True)
        results.send((None, trace, time.monotonic() - began))


def _end_with(parent: Connection) -> None:
    """End this process when the parent's end of the pipe closes: a parent that was killed cannot say so."""
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
