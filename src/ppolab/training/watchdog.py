"""End a process that nothing else can end, since its environments do not come back."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from ppolab.envs.factory import VectorEnv
from ppolab.runtime.error_file import write_error


@contextmanager
def watched(envs: Sequence[VectorEnv], seconds: float, give_up: Callable[[str], object]) -> Iterator[None]:
    """Call `give_up` with one line, on a thread of its own, once one of `envs` keeps its caller waiting for so long.

    0 seconds: never.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.wait(min(1.0, seconds / 4)):
            for env in envs:
                since = env.waiting_since
                if since is not None and time.monotonic() - since > seconds:
                    give_up(
                        f"{env.env_id}: no environment has answered for {seconds:g} s; mend it, or allow it more "
                        "with env.timeout"
                    )
                    return

    thread = threading.Thread(target=watch, name="ppolab-watchdog", daemon=True)
    if seconds > 0:
        thread.start()
    try:
        yield
    finally:
        left.set()
        if thread.is_alive():
            thread.join()


def end_at_once(problem: str, code: int = 1) -> NoReturn:
    """Say `problem` and end this process and those it has started, whatever its threads are doing.

    A rank that another one started also leaves `problem` in its error file.
    """
    write_error(problem)
    print(f"ppolab: {problem}", file=sys.stderr, flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)
