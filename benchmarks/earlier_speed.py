"""How fast and how large runs are, compared with an earlier checkout of ppolab.

    python benchmarks/earlier_speed.py --earlier CHECKOUT
    python benchmarks/earlier_speed.py --earlier CHECKOUT --tasks hopper "hopper width 512" --repeats 5

Both sides run with the shipped settings, most tasks without MLflow, and take turns, in the other order every second
time. A run's number is the median over its iterations, without the first ones. Ratios are of pairs. Rows are added to
docs/results/earlier_speed.csv; the table that is printed is of all rows of the tasks that were asked for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from checkout_run import timed_run
from processes import ROOT
from result_tables import append_rows, markdown, read_rows

TABLE = ROOT / "docs/results/earlier_speed.csv"
TASKS = {
    "hopper": ("env=hopper", "total_steps=60000"),
    "halfcheetah": ("env=halfcheetah", "total_steps=60000"),
    "ant": ("env=ant", "total_steps=40000"),
    "humanoid": ("env=humanoid", "total_steps=40000"),
    "cartpole": ("env=cartpole", "total_steps=150000"),
    "minigrid": ("experiment=minigrid", "total_steps=20000"),
    "hopper with MLflow": ("env=hopper", "total_steps=60000", "logger=mlflow"),
    "hopper width 512": ("env=hopper", "model.hidden_sizes=[512,512]", "total_steps=30000"),
    "hopper width 1024": ("env=hopper", "model.hidden_sizes=[1024,1024]", "total_steps=16000"),
}
SIDES = ("now", "earlier")


@dataclass(frozen=True)
class Row:
    """One run; seconds are of an iteration."""

    task: str
    side: str
    repeat: int
    steps_per_second: float
    rollout_seconds: float
    update_seconds: float
    peak_mb: float


def main() -> None:
    """Run the sides in turn, store the rows, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of ppolab to compare with")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each task (5)")
    arguments = parser.parse_args()
    checkouts = {"now": ROOT, "earlier": arguments.earlier.absolute()}
    for _ in range(arguments.repeats):
        for task in arguments.tasks:
            repeat = sum(row.task == task and row.side == "now" for row in stored())
            for side in SIDES[::-1] if repeat % 2 else SIDES:
                row = Row(task, side, repeat, **asdict(timed_run(checkouts[side], TASKS[task])))
                append_rows(TABLE, Row, [row])
                print(f"{task}, {side}: {row.steps_per_second:,.0f} steps/s", file=sys.stderr, flush=True)
    print("\n".join(report([row for row in stored() if row.task in arguments.tasks])))


def stored() -> list[Row]:
    """Return all rows so far."""
    return read_rows(TABLE, Row) if TABLE.exists() else []


def report(rows: Sequence[Row]) -> list[str]:
    """Return a line per task: medians of both sides, and ratios of pairs."""
    lines = []
    for task in dict.fromkeys(row.task for row in rows):
        now, earlier = ([row for row in rows if (row.task, row.side) == (task, side)] for side in SIDES)
        pairs = list(zip(now, earlier, strict=False))
        faster = [new.steps_per_second / old.steps_per_second for new, old in pairs]
        memory = [new.peak_mb / old.peak_mb for new, old in pairs]
        speeds = [statistics.median(row.steps_per_second for row in side) for side in (earlier, now)]
        lines.append([
            task, str(len(pairs)), *(f"{speed:,.0f}" for speed in speeds),
            f"{statistics.median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f})",
            f"{1000 * statistics.median(row.rollout_seconds for row in now):.1f}",
            f"{1000 * statistics.median(row.update_seconds for row in now):.1f}",
            f"{statistics.median(row.peak_mb for row in now):,.0f}", f"{statistics.median(memory):.2f}",
        ])  # fmt: skip
    head = (
        "task", "pairs", "earlier, steps/s", "now, steps/s", "times as fast", "rollout, ms", "update, ms", "MB",
        "of earlier",
    )  # fmt: skip
    return markdown(head, lines)


if __name__ == "__main__":
    main()
