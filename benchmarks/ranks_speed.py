"""How fast two ranks on two cores are: one run in two processes against the same run in one with two threads.

    python benchmarks/ranks_speed.py --repeats 5
    python benchmarks/ranks_speed.py --repeats 5 --earlier CHECKOUT

Hopper-v5 with the shipped settings, 32 environments and minibatches of 64 over all processes. The sides take turns, in
the other order every second time. With `--earlier`, two ranks of another checkout of ppolab are measured, too. A run's
number is the median over its iterations, without the first ones.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from checkout_run import timed_run
from processes import ROOT
from result_tables import append_rows, markdown

ONE, TWO, EARLIER = "one process, two threads", "two ranks", "two ranks, earlier"
NUM_ENVS = 32


@dataclass(frozen=True)
class Row:
    """One run; seconds are of an iteration."""

    side: str
    repeat: int
    steps_per_second: float
    rollout_seconds: float
    update_seconds: float


def main() -> None:
    """Run the sides in turn, and print medians."""
    arguments = parse_arguments()
    sides = [ONE, TWO, *([EARLIER] if arguments.earlier else [])]
    arguments.csv.unlink(missing_ok=True)
    rows = []
    for repeat in range(arguments.repeats):
        for side in sides[::-1] if repeat % 2 else sides:
            checkout = arguments.earlier.absolute() if side == EARLIER else ROOT
            rows.append(measured(side, repeat, checkout, arguments.steps))
            append_rows(arguments.csv, Row, [rows[-1]])
            print(f"{side} {repeat}: {rows[-1].steps_per_second:,.0f} steps/s", flush=True)
    print("\n".join(report(rows)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (5)")
    parser.add_argument("--steps", type=int, default=40_000, help="environment steps of a run (40000)")
    parser.add_argument("--earlier", type=Path, help="a checkout of ppolab to compare with")
    results = ROOT / "docs" / "results" / "ranks_speed.csv"
    parser.add_argument("--csv", type=Path, default=results, help="written anew (docs/results/ranks_speed.csv)")
    return parser.parse_args()


def measured(side: str, repeat: int, checkout: Path, steps: int) -> Row:
    """Train one run of `checkout`, and read its metrics."""
    spread = (f"num_envs={NUM_ENVS}",)
    if side != ONE:
        spread = ("trainer=ddp", "trainer.devices=2", f"num_envs={NUM_ENVS // 2}")
    timed = timed_run(checkout, ("env=hopper", f"total_steps={steps}", *spread))
    return Row(side, repeat, timed.steps_per_second, timed.rollout_seconds, timed.update_seconds)


def report(rows: Sequence[Row]) -> list[str]:
    """A line per side, and the ratio of each to one process, pair by pair."""
    lines = []
    alone = {row.repeat: row.steps_per_second for row in rows if row.side == ONE}
    for side in dict.fromkeys(row.side for row in rows):
        mine = [row for row in rows if row.side == side]
        speed = statistics.median(row.steps_per_second for row in mine)
        seconds = [
            1000 * statistics.median(getattr(row, name) for row in mine)
            for name in ("rollout_seconds", "update_seconds")
        ]
        ratios = [row.steps_per_second / alone[row.repeat] for row in mine if row.repeat in alone]
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append([side, str(len(mine)), f"{speed:,.0f}", told, *(f"{each:.0f}" for each in seconds)])
    return markdown(["", "runs", "steps/s", "of one process", "rollout, ms", "update, ms"], lines)


if __name__ == "__main__":
    main()
