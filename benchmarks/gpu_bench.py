"""What every part of `benchmarks/gpu.py` is given, and how it times what a device does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from result_tables import append_rows

TASKS = ("Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5")


@dataclass(frozen=True)
class Row:
    """One number; `worlds` is 0 where there are none."""

    part: str
    what: str
    task: str
    worlds: int
    value: float
    unit: str
    device: str


@dataclass(frozen=True)
class Sizes:
    """How much a part measures.

    Attributes:
        seconds: of each timing. steps: at most, of each timing.
    """

    tasks: tuple[str, ...]
    worlds: tuple[int, ...]
    seconds: float
    steps: int
    training: tuple[str, ...]
    training_worlds: int
    training_steps: int
    returns_steps: int
    minibatches: tuple[int, ...]


FULL = Sizes(TASKS, (1024, 4096, 16384), 1.5, 10_000, ("experiment=gpu",), 4096, 1_000_000, 5_000_000, (256, 2048))
TINY = Sizes(
    ("Hopper-v5",), (4,), 1.0, 5,
    ("experiment=gpu", "trainer=cpu", "num_envs=16", "minibatch_size=64", "compile=false"), 16, 1024, 1024, (8,),
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What a part is given: where, how much, and where its rows go."""

    device: Any
    sizes: Sizes
    table: Path

    def add(self, part: str, what: str, value: float, unit: str, task: str = "", worlds: int = 0) -> None:
        """Store one number at once, and print it."""
        row = Row(part, what, task, worlds, float(f"{value:.6g}"), unit, self.named())
        append_rows(self.table, Row, [row])
        print(f"{part:10} {task:15} {worlds or '':>6} {what}: {row.value:,} {unit}", flush=True)

    def named(self) -> str:
        """Return what the device is called."""
        import torch

        return str(torch.cuda.get_device_name(self.device)) if self.device.type == "cuda" else "cpu"

    def wait(self) -> None:
        """Wait until the device has done what it was told."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def timed(bench: Bench, step: Callable[[], Any]) -> tuple[int, float, float]:
    """Return calls taken, their seconds, and the seconds in which this process was telling the device what to do."""
    for _ in range(3):
        step()
    bench.wait()
    taken, launching, started = 0, 0.0, time.perf_counter()
    while taken < bench.sizes.steps and time.perf_counter() - started < bench.sizes.seconds:
        for _ in range(5):  # the device has work until the last of them
            began = time.perf_counter()
            step()
            launching += time.perf_counter() - began
            taken += 1
        bench.wait()
    return taken, time.perf_counter() - started, launching
