"""Print what happens in a sweep, and how far its runs are."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ppolab.records.run_folder import RunFolder
from ppolab.records.run_progress import progress_of
from ppolab.records.wording import CLEAR_LINE, shown

QUIET_SECONDS = 25.0
"""Where there is no terminal, nothing was printed for so long before a line says how far the sweep is."""
REDRAW_SECONDS = 1.0
"""The line of a terminal is drawn at most so often."""

UnderWay = Sequence[tuple[str, RunFolder]]
"""The runs under way: what each is called, and its folder."""


class SweepLines:
    """Print lines about a sweep; between them, how far it is: on a terminal as one line that is drawn again.

    Args:
        total: runs in all. shown: False leaves out everything but the lines about runs that have ended.
    """

    def __init__(self, total: int, *, shown: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._shown = shown
        self._clock = clock
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.Lock()
        self._printed = clock()
        self._drawn = -REDRAW_SECONDS

    def ended(self, line: str) -> None:
        """Print a line about a run that has ended, or about the sweep."""
        with self._lock:
            self._print(line)

    def started(self, line: str) -> None:
        """Print a line about a run that begins; on a terminal the line that is drawn again says so."""
        with self._lock:
            if self._shown and not self._terminal:
                self._print(line)

    def update(self, runs: UnderWay, done: int) -> None:
        """Say how far the sweep is, if it is time to."""
        with self._lock:
            now = self._clock()
            if not self._shown:
                return
            if self._terminal and now - self._drawn >= REDRAW_SECONDS:
                width = shutil.get_terminal_size().columns - 1
                text = self._text(runs, done)
                text = text if len(text) <= width else f"{text[: width - 1]}…"
                print(f"{CLEAR_LINE}{text}", end="", flush=True)
                self._drawn = now
            elif not self._terminal and now - self._printed >= QUIET_SECONDS:
                self._print(self._text(runs, done))

    def close(self) -> None:
        """Leave an empty line for what is printed next."""
        with self._lock:
            if self._terminal:
                print(CLEAR_LINE, end="", flush=True)

    def _print(self, line: str) -> None:
        print(f"{CLEAR_LINE}{line}" if self._terminal else line, flush=True)
        self._printed, self._drawn = self._clock(), -REDRAW_SECONDS

    def _text(self, runs: UnderWay, done: int) -> str:
        counts = f"{len(runs)} running, {done} of {self._total} done"
        return " | ".join([counts, *(f"{name} {_progress_in_words(folder)}" for name, folder in runs)])


def _progress_in_words(folder: RunFolder) -> str:
    progress = progress_of(folder)
    if progress is None:
        return "starts"
    reached = "" if progress.episode_return is None else f" return {shown(progress.episode_return)}"
    return f"{progress.percent}%{reached}"


@contextmanager
def updating(lines: SweepLines, state: Callable[[], tuple[UnderWay, int]]) -> Iterator[None]:
    """Update the lines from a thread while the block, which is somebody else's loop, runs."""
    over = threading.Event()

    def update() -> None:
        while not over.wait(REDRAW_SECONDS):
            lines.update(*state())

    thread = threading.Thread(target=update, name="ppolab-sweep-lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lines.close()
