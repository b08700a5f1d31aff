"""Start the ranks of a run on this machine, one per device, and let them join one process group.

The fork server starts a rank without importing anything again, which torchrun cannot, and it hands the configuration
over as an object: under `-m` a command line would start the sweep again. So torch.distributed's file store and
`init_process_group` are used as they are, and its launcher is not. Who wants torchrun or srun can still type them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch.distributed

from ppolab.config.schema import Config
from ppolab.errors import ProcessError
from ppolab.runtime.cores import CORES, usable_cores
from ppolab.runtime.error_file import ERROR_FILE, read_error
from ppolab.runtime.fork_server import EndedProcess, ProcessPool
from ppolab.runtime.process_group import ALONE, ProcessGroup
from ppolab.runtime.ranks import Rank, rank_given_from_outside, ranks_of_this_machine
from ppolab.runtime.shared_memory import can_share_memory

RENDEZVOUS_SECONDS = 300.0
"""Limit for the start of the other ranks on this machine."""
REASON_SECONDS = 10.0
"""How long to wait for the reason why a rank is gone."""

RunRank = Callable[[Config, Rank], str | None]
"""Trains as one of the other ranks; returns the problem that ended it, or None."""


@contextmanager
def launch_ranks(config: Config, run_rank: RunRank, folder: Path) -> Iterator[tuple[Rank, ProcessGroup]]:
    """Start the other ranks of this machine, yield this one and the group of all, and wait for the others' end.

    What another rank prints goes to `process{rank}.log` in `folder`.

    Raises:
        ProcessError: another rank is gone; with the reason.
        ConfigError: what started this process contradicts the configuration.
    """
    given = Rank() if config.world_size == 1 else rank_given_from_outside(config)
    if given is not None:
        with join_process_group(given, config) as group:
            yield given, group
        return
    rank, *others = ranks_of_this_machine(config)
    with tempfile.TemporaryDirectory(prefix="ppolab-") as rendezvous, _shared_machine(config) as variables:
        if rank.rendezvous is None:
            rank, *others = (replace(each, rendezvous=f"file://{rendezvous}/store") for each in (rank, *others))
        launched = _LaunchedRanks(ProcessPool(len(others), ("ppolab.training.run",)), rank.world_size, folder)
        try:
            for other in others:
                launched.start(other, config, run_rank, variables)
            _await_start(launched, others, Path(rendezvous))
            with join_process_group(rank, config) as group:
                try:
                    yield rank, group
                except ProcessError as error:
                    raise ProcessError(launched.problem(REASON_SECONDS) or str(error)) from error
            launched.await_end()
        finally:
            launched.pool.stop()


@contextmanager
def join_process_group(rank: Rank, config: Config) -> Iterator[ProcessGroup]:
    """Be one of the run's ranks inside the block."""
    if rank.world_size == 1:
        yield ALONE
        return
    assert rank.rendezvous is not None
    if rank.rendezvous.startswith("file://"):
        _started_file(Path(rank.rendezvous.removeprefix("file://")).parent, rank).touch()
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=rank.rendezvous,
        rank=rank.global_rank,
        world_size=rank.world_size,
    )
    try:
        yield ProcessGroup(rank.global_rank, rank.world_size, can_share_memory(config.trainer.num_nodes))
    finally:
        torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class _LaunchedRanks:
    """Hold the other ranks of this machine; `size` counts all ranks, and `folder` gets their output and errors."""

    pool: ProcessPool
    size: int
    folder: Path

    def start(self, rank: Rank, config: Config, run_rank: RunRank, variables: dict[str, str]) -> None:
        """Start one rank in a process of its own."""
        error = self._file(rank.global_rank, "error")
        error.unlink(missing_ok=True)  # of the run that is resumed
        log = self._file(rank.global_rank, "log")
        environment = {**variables, ERROR_FILE: str(error.absolute())}
        self.pool.start(rank.global_rank, run_rank, (config, rank), log, environment)

    def problem(self, seconds: float) -> str | None:
        """Return why a rank ended before its time; None if none does so within `seconds`."""
        for ended in self.pool.wait(seconds):
            reason = self._reason(ended)
            if reason:
                log = self._file(ended.key, "log")
                return f"process {ended.key} of {self.size}: {reason}; its output is in {log}"
        return None

    def await_end(self) -> None:
        """Wait until all have ended.

        Raises:
            ProcessError: one of them ended with a problem.
        """
        while not self.pool.is_idle:
            problem = self.problem(REASON_SECONDS)
            if problem:
                raise ProcessError(problem)

    def _reason(self, ended: EndedProcess) -> str | None:
        """Return what the rank itself has said, else how its process ended; None for a rank without a problem."""
        said = ended.result or read_error(self._file(ended.key, "error"))
        if said is None and ended.error:
            return ended.error.strip().rpartition("\n")[2]
        return said

    def _file(self, rank: int, kind: str) -> Path:
        return self.folder / f"process{rank}.{kind}"


def _started_file(rendezvous: Path, rank: Rank) -> Path:
    return rendezvous / f"started{rank.global_rank}"


@contextmanager
def _shared_machine(config: Config) -> Iterator[dict[str, str]]:
    """Set, and yield, the variables that divide this machine's cores among its ranks.

    On a single machine they also keep the ranks from listening beyond it.
    """
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


def _await_start(launched: _LaunchedRanks, others: Sequence[Rank], rendezvous: Path) -> None:
    """Wait until the other ranks have started: `init_process_group` would not notice one that never will.

    Raises:
        ProcessError: one of them has ended, or takes longer than `RENDEZVOUS_SECONDS`.
    """
    if any(other.rendezvous is None or not other.rendezvous.startswith("file://") for other in others):
        return
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    waited_for = [_started_file(rendezvous, other) for other in others]
    while not all(file.exists() for file in waited_for):
        problem = launched.problem(seconds=0.1)
        if problem:
            raise ProcessError(problem)
        if time.monotonic() > deadline:
            raise ProcessError(
                f"the other processes did not start in {RENDEZVOUS_SECONDS:g} s; see {launched.folder}/process*.log"
            )
