"""Handle Ctrl-C and SIGTERM for the length of a block, and put the earlier handlers back."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ppolab.records.wording import CLEAR_LINE

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a run to save and end."""

Handler = Callable[[int, FrameType | None], object]


def in_main_thread() -> bool:
    """Return whether this is the thread that Python delivers signals to, which alone may set their handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def signals_handled_by(handler: Handler, numbers: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Let `handler` answer the signals `numbers` inside the block; the earlier handlers answer again after it.

    Python delivers signals to the main thread only, so in another thread this changes nothing.
    """
    if not in_main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in previous.items():
            if earlier is not None:  # None: it was set by C code, and Python cannot set it again
                signal.signal(number, earlier)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a signal has asked for an orderly end; a second signal ends at once."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        over_the_progress = CLEAR_LINE if sys.stdout.isatty() else ""
        print(f"{over_the_progress}stopping: the runs save and end; once more to end at once", flush=True)

    with signals_handled_by(ask):
        yield asked.is_set


@contextmanager
def given_up_after(give_up: Callable[[], None]) -> Iterator[None]:
    """Let a first signal in the block call `give_up`, which ends the wait for a tracking store; a second ends at once.

    What a user reads holds for a sweep.
    """
    asked = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print("no longer sending: the same command sends what the store lacks; once more to end at once", flush=True)
        give_up()

    with signals_handled_by(end):
        yield


@contextmanager
def heeded_interrupt() -> Iterator[None]:
    """End the block with KeyboardInterrupt after a signal, even if a package swallows it while it is imported."""
    asked = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    with signals_handled_by(interrupt):
        try:
            yield
        except Exception:
            if asked.is_set():  # the package is left half imported
                raise KeyboardInterrupt from None
            raise
    if asked.is_set():
        raise KeyboardInterrupt
