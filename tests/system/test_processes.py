"""Fresh processes from a fork server: what they import, return, and leave behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from ppolab.runtime.cores import CORES
from ppolab.runtime.fork_server import EndedProcess, ProcessPool

MODULE = """
import os, sys, time
LOADED_IN = os.getpid()

def answer(value):
    print("told", value)
    return value, LOADED_IN != os.getpid(), os.environ.get("PPOLAB_CORES")

def groups():
    return os.getpgid(os.getppid()), os.getpgid(0)

def fail():
    raise ValueError("on fire")

def sleep():
    time.sleep(60)

def nothing():
    pass

def leave(code):
    os._exit(code)
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ProcessPool:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "preloaded_module.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    forkserver._forkserver._stop()  # of an earlier test, which has not imported this
    return ProcessPool(2, ["preloaded_module"])


def run(pool: ProcessPool, name: str, *arguments: object, folder: Path) -> EndedProcess:
    import preloaded_module

    pool.start(0, getattr(preloaded_module, name), arguments, folder / "output.txt", {CORES: "1"})
    ended: list[EndedProcess] = []
    while not ended:
        ended = pool.wait(10)
    return ended[0]


def test_signals_to_the_group_of_the_sweep_reach_neither_the_server_nor_its_processes(
    pool: ProcessPool, tmp_path: Path
) -> None:
    server, process = run(pool, "groups", folder=tmp_path).result
    assert len({server, process, os.getpgid(0)}) == 3


def test_a_process_finds_what_was_preloaded(pool: ProcessPool, tmp_path: Path) -> None:
    ended = run(pool, "answer", 5, folder=tmp_path)
    assert ended.error is None
    assert ended.result == (5, True, "1"), "the module was imported by the server, not by the process"
    assert (tmp_path / "output.txt").read_text() == "told 5\n"
    assert CORES not in os.environ


def test_a_process_that_raises(pool: ProcessPool, tmp_path: Path) -> None:
    ended = run(pool, "fail", folder=tmp_path)
    assert ended.error is not None
    assert ended.error.strip().endswith("ValueError: on fire")
    assert "ValueError: on fire" in (tmp_path / "output.txt").read_text()


def test_a_process_that_just_ends(pool: ProcessPool, tmp_path: Path) -> None:
    ended = run(pool, "leave", 7, folder=tmp_path)
    assert ended.error == "the process ended with exit code 7, without a result"


def test_a_process_may_return_nothing(pool: ProcessPool, tmp_path: Path) -> None:
    assert run(pool, "nothing", folder=tmp_path) == EndedProcess(0, None, None)


def test_an_interrupt_reaches_all(pool: ProcessPool, tmp_path: Path) -> None:
    import preloaded_module

    for key in (1, 2):
        pool.start(key, preloaded_module.sleep, (), tmp_path / f"{key}.txt", {})
    assert not pool.has_room
    started = time.monotonic()
    pool.interrupt()
    ended: list[EndedProcess] = []
    while not pool.is_idle:
        ended += pool.wait(10)
    assert time.monotonic() - started < 10
    assert {one.key for one in ended} == {1, 2}
    assert all(one.error is not None and "KeyboardInterrupt" in one.error for one in ended)


def test_a_killed_process_is_told_by_its_signal(pool: ProcessPool, tmp_path: Path) -> None:
    import preloaded_module

    pool.start(3, preloaded_module.sleep, (), tmp_path / "3.txt", {})
    while not (tmp_path / "3.txt").exists():
        time.sleep(0.05)
    process = pool._running[3].process
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    (ended,) = pool.wait(10)
    assert ended.error == "the process ended with signal SIGKILL, without a result"
