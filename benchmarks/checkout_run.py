"""Run programs of a checkout of ppolab, and read how fast the iterations of a run were."""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHARED = ("eval_interval=0", "eval_episodes=1", "logger=none", "progress=off", "logger.video=false")
WARM_UP = 3


@dataclass(frozen=True)
class Timed:
    """Medians over the iterations of a run, without the first ones; and the peak of its largest process."""

    steps_per_second: float
    rollout_seconds: float
    update_seconds: float
    peak_mb: float


def run_program(
    checkout: Path, program: str, folder: Path, words: Sequence[str], variables: Mapping[str, str] | None = None
) -> float:
    """Run `src/PROGRAM` of `checkout` in `folder`, in a fresh process; return its peak in MB.

    Args:
        variables: of the environment, besides those of this process.

    Raises:
        SystemExit: it failed; with what it said.
    """
    source = checkout / "src"
    command = [sys.executable, str(source / program), *words]
    environment = {**os.environ, "PYTHONPATH": str(source), **(variables or {})}
    with (folder / f"{program}.txt").open("w+") as output:  # a pipe would wait for the fork server, too
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{output.read()}")
    return usage.ru_maxrss / 1024


def timed_run(checkout: Path, settings: Sequence[str]) -> Timed:
    """Run `src/train.py` of `checkout` with `settings`, in a fresh process.

    Raises:
        SystemExit: see `run_program`.
    """
    given = {word.split("=")[0] for word in settings}
    shared = [word for word in SHARED if word.split("=")[0] not in given]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peak_mb = run_program(checkout, "train.py", folder, [*shared, *settings, f"hydra.run.dir={folder}/run"])
        with (folder / "run" / "metrics.csv").open(newline="") as file:
            iterations = [row for row in csv.DictReader(file) if row["time/update"]][WARM_UP:]
    names = ("time/steps_per_second", "time/rollout", "time/update")
    medians = [round(statistics.median(float(row[name]) for row in iterations), 5) for name in names]
    return Timed(*medians, round(peak_mb, 1))
