"""Starting the processes of a run, one per device, and bringing them together."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch.distributed

from ppolab.config import CORES, Config, usable_cores
from ppolab.errors import ProcessError
from ppolab.parallel import ALONE, Processes
from ppolab.places import Place, given_place, own_places
from ppolab.processes import ProcessPool

MEETING_SECONDS = 300.0
"""How long to wait for processes that are being started on this machine."""
CAUSE_SECONDS = 10.0
"""How long to wait for the reason of a process that is gone."""

Follow = Callable[[Config, Place], str | None]
"""What another process than the first does: the problem that ended it, or None."""


@contextmanager
def together(config: Config, follow: Follow, folder: Path) -> Iterator[tuple[Place, Processes]]:
    """Start the other processes of this machine, and join the run; in the end, wait for theirs.

    Their terminals are files in `folder`.

    Raises:
        ProcessError: one of them is gone; with its reason.
        ConfigError: what started this process, and the configuration, contradict each other.
    """
    given = Place() if config.processes == 1 else given_place(config)
    if given is not None:
        with joined(given, config) as processes:
            yield given, processes
        return
    place, *others = own_places(config)
    with tempfile.TemporaryDirectory(prefix="ppolab-") as meeting, _shared_machine(config) as variables:
        if place.meeting is None:
            place, *others = (replace(each, meeting=f"file://{meeting}/store") for each in (place, *others))
        pool = ProcessPool(len(others), ("ppolab.experiment",))
        try:
            for other in others:
                pool.start(other.rank, follow, (config, other), _log(folder, other.rank), variables)
            _await_start(pool, others, Path(meeting), folder)
            with joined(place, config) as processes:
                try:
                    yield place, processes
                except ProcessError as error:
                    raise ProcessError(_cause(pool, place.size, folder) or str(error)) from error
            _await_end(pool, place.size, folder)
        finally:
            pool.stop()


@contextmanager
def joined(place: Place, config: Config) -> Iterator[Processes]:
    """Be one of the run's processes."""
    if place.size == 1:
        yield ALONE
        return
    assert place.meeting is not None
    if place.meeting.startswith("file://"):
        Path(place.meeting.removeprefix("file://")).with_name(f"started{place.rank}").touch()
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=place.meeting, rank=place.rank, world_size=place.size,
    )  # fmt: skip
    try:
        yield Processes(place.rank, place.size)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _shared_machine(config: Config) -> Iterator[dict[str, str]]:
    """Environment variables: processes divide the machine's cores; if it is the only one, none listens beyond it."""
    settings = {CORES: str(max(1, usable_cores() // config.trainer.devices))}
    if config.trainer.num_nodes == 1 and sys.platform == "linux":
        settings |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield settings
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _await_start(pool: ProcessPool, others: Sequence[Place], meeting: Path, folder: Path) -> None:
    """Nobody who waits for the others to join would notice that one of them never will."""
    if any(other.meeting is None or not other.meeting.startswith("file://") for other in others):
        return
    deadline = time.monotonic() + MEETING_SECONDS
    waited_for = [meeting / f"started{other.rank}" for other in others]
    while not all(file.exists() for file in waited_for):
        cause = _cause(pool, len(others) + 1, folder, seconds=0.1)
        if cause or time.monotonic() > deadline:
            raise ProcessError(cause or f"the other processes did not start in {MEETING_SECONDS:g} s; see {folder}")


def _await_end(pool: ProcessPool, size: int, folder: Path) -> None:
    while not pool.is_idle:
        cause = _cause(pool, size, folder)
        if cause:
            raise ProcessError(cause)


def _cause(pool: ProcessPool, size: int, folder: Path, seconds: float = CAUSE_SECONDS) -> str | None:
    """Why a process ended before its time; None if none did within `seconds`."""
    for ended in pool.wait(seconds):
        problem = ended.result
        if ended.error:
            problem = _last_words(_log(folder, ended.key)) or ended.error.strip().rpartition("\n")[2]
        if problem:
            return f"process {ended.key} of {size}: {problem}; its output is in {_log(folder, ended.key)}"
    return None


def _last_words(log: Path) -> str | None:
    """Of a process that had to end itself at once."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return lines[-1].removeprefix("ppolab: ") if lines and lines[-1].startswith("ppolab: ") else None


def _log(folder: Path, rank: int) -> Path:
    return folder / f"process{rank}.log"
