"""How much memory runs and the workers of a sweep hold, compared with an earlier checkout of ppolab.

    python benchmarks/memory_held.py --earlier CHECKOUT

Hopper with everything as shipped, but short: a run, a run without MLflow, and a sweep of eight trials at a time. The
sides take turns. Memory is the proportional set size (PSS, Linux): what processes share counts in equal parts, so
nothing else may use the same environment of Python meanwhile. A row is of the moment at which all processes of the
command together held most. `training_mb` is of those that train: the run's own, or the sweep's eight workers. `all_mb`
is also of the fork server and whatever else is below the command. Rows are added to docs/results/memory_held.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import ROOT
from result_tables import append_rows, markdown, read_rows

TABLE = ROOT / "docs/results/memory_held.csv"
WORKERS = 8
SHORT = (
    "env=hopper",
    "total_steps=60000",
    "eval_interval=0",
    "eval_episodes=1",
    "trainer.threads=1",
    "env.num_threads=1",
)
SWEEP = "sweep, eight workers"
CASES = {
    "run": SHORT,
    "run, logger=none": (*SHORT, "logger=none"),
    SWEEP: ("-m", "search=clip_lr", f"n_trials={WORKERS}", f"workers={WORKERS}", "pruner=none", *SHORT),
}
SIDES = ("now", "earlier")
SECONDS_BETWEEN = 0.2


@dataclass(frozen=True)
class Row:
    """One command, when it held most."""

    case: str
    side: str
    repeat: int
    training_mb: float
    all_mb: float
    processes: int


def main() -> None:
    """Run the sides in turn, store the rows, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of ppolab to compare with")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each case (5)")
    arguments = parser.parse_args()
    checkouts = {"now": ROOT, "earlier": arguments.earlier.absolute()}
    for _ in range(arguments.repeats):
        for case in arguments.cases:
            repeat = sum((row.case, row.side) == (case, "now") for row in read_rows(TABLE, Row))
            for side in SIDES[::-1] if repeat % 2 else SIDES:
                row = measured(checkouts[side], case, side, repeat)
                append_rows(TABLE, Row, [row])
                print(f"{case}, {side}: {row.all_mb:,.0f} MB", file=sys.stderr, flush=True)
    print("\n".join(report(read_rows(TABLE, Row))))


def measured(checkout: Path, case: str, side: str, repeat: int) -> Row:
    """Run a case in a folder of its own.

    Raises:
        SystemExit: it failed; with what it said.
    """
    most: Held | None = None
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output.txt").open("w+") as output:
        command = [sys.executable, str(checkout / "src" / "train.py"), *CASES[case]]
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            held = held_below(psutil.Process(process.pid), WORKERS if case == SWEEP else 0)
            if held is not None and (most is None or held.all_mb > most.all_mb):
                most = held
            time.sleep(SECONDS_BETWEEN)
        if process.returncode or most is None:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{output.read()}")
    return Row(case, side, repeat, round(most.training_mb, 1), round(most.all_mb, 1), most.processes)


@dataclass(frozen=True)
class Held:
    """What the processes of a command hold, in MB."""

    training_mb: float
    all_mb: float
    processes: int


def held_below(command: psutil.Process, workers: int) -> Held | None:
    """Look at a command and all processes below it; None if it has ended, or has fewer workers.

    Args:
        workers: how many of the fork server's children train: the largest ones; 0: the command itself does.
    """
    found: dict[int, tuple[int, float]] = {}
    try:
        for process in (command, *command.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # this one has ended
                found[process.pid] = process.ppid(), process.memory_full_info().pss / 2**20
    except psutil.NoSuchProcess:
        return None
    if command.pid not in found:
        return None
    parents = Counter(parent for parent, _ in found.values() if parent in found and parent != command.pid)
    server = max(parents, key=lambda pid: parents[pid], default=None)
    children = sorted((mb for parent, mb in found.values() if parent == server), reverse=True)
    if len(children) < workers:
        return None
    training = children[:workers] if workers else [found[command.pid][1]]
    return Held(sum(training), sum(mb for _, mb in found.values()), len(found))


def report(rows: Sequence[Row]) -> list[str]:
    """Return the table: medians of both sides, and of the ratios of pairs."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        sides = [
            sorted((row for row in rows if (row.case, row.side) == (case, side)), key=lambda row: row.repeat)
            for side in SIDES
        ]
        for name in ("training_mb", "all_mb"):
            values = [[getattr(row, name) for row in side] for side in sides]
            ratios = [now / earlier for now, earlier in zip(*values, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            what = "all processes" if name == "all_mb" else "those that train"
            lines.append(
                [case, what, str(len(ratios)), *(f"{statistics.median(side):,.0f}" for side in values), spread]
            )
    return markdown(("", "PSS of", "pairs", "now, MB", "earlier, MB", "of earlier"), lines, texts=2)


if __name__ == "__main__":
    main()
