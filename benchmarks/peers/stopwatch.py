"""What every speed script measures with, so that all sides are measured alike. Needs nothing but torch."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


@dataclass(frozen=True)
class Mark:
    """The state at the end of one iteration: environment steps, gradient steps, wall clock and CPU time."""

    steps: int
    gradient_steps: int
    clock: float
    cpu_seconds: float


class Stopwatch:
    """Marks the ends of iterations, and counts every call of a torch optimizer's `step`."""

    def __init__(self) -> None:
        self._calls = 0
        self.marks: list[Mark] = []
        register_optimizer_step_post_hook(self._count)

    def _count(self, *_: Any) -> None:
        self._calls += 1

    def mark(self, steps: int, gradient_steps: int | None = None) -> None:
        """An iteration, its update included, has just ended after `steps` environment steps in all.

        `gradient_steps`: so far, where somebody knows better than the calls that were counted.
        """
        counted = self._calls if gradient_steps is None else gradient_steps
        self.marks.append(Mark(steps, counted, time.time(), cpu_seconds()))

    def write(self, target: Path, warmup: int, versions: dict[str, str]) -> None:
        """Store the totals, the span from the first mark at or beyond `warmup` steps to the last one, and versions."""
        last = self.marks[-1]
        first = next((mark for mark in self.marks if mark.steps >= warmup), last)
        if first is last:
            raise SystemExit(f"nothing is left to measure: {last.steps} steps with a warm-up of {warmup}")
        record = {
            "steps": last.steps,
            "gradient_steps": last.gradient_steps,
            "ended": last.clock,
            "measured_steps": last.steps - first.steps,
            "measured_iterations": len(self.marks) - 1 - self.marks.index(first),
            "measured_gradient_steps": last.gradient_steps - first.gradient_steps,
            "measured_seconds": last.clock - first.clock,
            "measured_cpu_seconds": last.cpu_seconds - first.cpu_seconds,
            "torch_threads": torch.get_num_threads(),
            "versions": versions,
            "marks": [asdict(mark) for mark in self.marks],
        }
        target.write_text(json.dumps(record) + "\n")


def optimizer_steps(optimizer: torch.optim.Optimizer) -> int:
    """Gradient steps so far by the optimizer's own count, which is right whoever made the steps, by whatever call.

    Raises:
        SystemExit: it keeps no count (SGD without momentum, say).
    """
    counts = [int(state["step"]) for state in optimizer.state.values() if "step" in state]
    if not counts and any(optimizer.state.values()):
        raise SystemExit(f"{type(optimizer).__name__} keeps no count of its steps; measure with optimizer=adam")
    return max(counts, default=0)


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of the worker processes it has running."""
    return time.process_time() + sum(_process_seconds(child.pid) for child in multiprocessing.active_children())


def _process_seconds(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone, or a system without /proc
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Of Python and of the installed packages among `distributions`."""
    found = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def common_arguments(description: str) -> argparse.ArgumentParser:
    """The parser with what every speed script takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--env", required=True, help="environment id")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--steps", type=int, default=200_000, help="environment steps to train")
    parser.add_argument("--warmup", type=int, default=40_000, help="environment steps before the measured span")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the measurement")
    return parser
