"""Wall-clock time until training reaches a return: ppolab against Stable-Baselines3 (SB3).

    python benchmarks/time_to_return.py run --jobs 2
    python benchmarks/time_to_return.py report

The return is the mean of the last 100 training episodes (sampled actions, unscaled rewards); it counts once 100
episodes have ended. ppolab runs with its shipped settings through the real command line, tracking and evaluations
included; SB3's PPO as it comes, and with the settings that its own project tuned and published
(peers/sb3_settings.py). Every run is a fresh process with one thread for torch and one for the simulator, `--jobs` of
them side by side. Time counts from the launch of the process, and also from just before the first environment step. A
run that does not get there in its steps (SB3's also in its `--seconds`, if given) counts as not having reached it, not
as a slow one.

One row per run goes to OUT/runs.csv, its curve to OUT/curves.csv. Rows that are there are not run again, so a stopped
benchmark goes on with the same command. `report` writes OUT/report.md and OUT/curves.png.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peer_env
import time_to_return_report
from processes import ROOT, Child, ChildFailed, peer_script, run_child, version_text
from result_tables import append, append_rows, read_rows
from time_to_return_report import SIDES, WINDOW, Row

CURVE_COLUMNS = ("env", "side", "seed", "seconds", "steps", "train_return", "episodes")
CURVE_POINTS = 150
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Task:
    """An environment by its id and its option in conf/env, the return to reach, and the most steps for each side."""

    option: str
    threshold: float
    steps: int
    zoo_steps: int


TASKS = {
    "Hopper-v5": Task("hopper", 2000.0, 1_000_000, 1_000_000),
    "HalfCheetah-v5": Task("halfcheetah", 1500.0, 1_000_000, 1_000_000),
    "CartPole-v1": Task("cartpole", 475.0, 500_000, 100_000),  # the zoo's schedules are made for 100,000
}


@dataclass(frozen=True)
class Job:
    """One run that is wanted."""

    env: str
    side: str
    seed: int
    threshold: float
    steps: int

    def __str__(self) -> str:
        return f"{self.env} {self.side} seed {self.seed}"


def main() -> None:
    """Do what the first argument says."""
    arguments = parse_arguments()
    arguments.action(arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True, metavar="{run,report}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results" / "time_to_return",
        help="folder of the results (docs/results/time_to_return)",
    )  # fmt: skip
    run = actions.add_parser("run", parents=[common], help="train what is not in the table yet")
    run.add_argument("--env", nargs="+", choices=TASKS, default=list(TASKS), metavar="ID", help=f"{', '.join(TASKS)}")
    run.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help=f"of {', '.join(SIDES)} (all)")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each (0 1 2)")
    run.add_argument("--jobs", type=int, default=1, help="processes side by side (1)")
    run.add_argument("--steps", type=int, help="at most this many, for a trial (1000000; CartPole-v1: 500000)")
    run.add_argument("--seconds", type=float, help="SB3 stops after so many seconds of training (never)")
    run.add_argument("--full", action="store_true", help="SB3 too goes on after it has reached the return")
    run.add_argument(
        "--peer-env", type=Path, default=ROOT / "outputs" / "peers" / "sb3",
        help="SB3's virtual environment (outputs/peers/sb3 in the repository)",
    )  # fmt: skip
    run.set_defaults(action=run_all)
    report = actions.add_parser("report", parents=[common], help="write report.md and curves.png; print the report")
    report.set_defaults(action=report_all)
    return parser.parse_args()


def run_all(arguments: argparse.Namespace) -> None:
    """Train everything that has no row; exit code 1 if something failed."""
    table = arguments.out / "runs.csv"
    wanted = wanted_jobs(arguments)
    missing = missing_jobs(wanted, read_rows(table, Row), table)
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are in {table}; {len(missing)} to go", flush=True)
    python = sys.executable
    if any(job.side != "ppolab" for job in missing):
        try:
            python = str(peer_env.ready(arguments.peer_env.absolute(), peer_env.requirements("sb3")))
        except peer_env.PeerUnavailable as error:
            raise SystemExit(f"{error}; --sides ppolab runs without it") from None
    failed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(train, job, python, arguments): job for job in missing}
        try:
            for future in as_completed(futures):
                try:
                    row, curve = future.result()
                except ChildFailed as error:
                    failed += 1
                    print(f"{futures[future]}: {error}", file=sys.stderr, flush=True)
                    continue
                append(arguments.out / "curves.csv", CURVE_COLUMNS, curve)
                append_rows(table, Row, [row])
                print(f"{futures[future]}: {time_to_return_report.told(row)}", flush=True)
        except KeyboardInterrupt:  # the children got the signal from the terminal, too
            pool.shutdown(cancel_futures=True)
            raise SystemExit(130) from None
    if failed:
        raise SystemExit(f"{failed} of {len(missing)} runs failed")


def wanted_jobs(arguments: argparse.Namespace) -> list[Job]:
    """All runs that the command line asks for, short ones of all sides first."""
    jobs = []
    for seed in arguments.seeds:
        for env in arguments.env:
            for side in arguments.sides:
                task = TASKS[env]
                steps = task.zoo_steps if side == "sb3-zoo" else task.steps
                jobs.append(Job(env, side, seed, task.threshold, min(steps, arguments.steps or steps)))
    return jobs


def missing_jobs(wanted: Sequence[Job], rows: Sequence[Row], table: Path) -> list[Job]:
    """Those that have no row yet.

    Raises:
        SystemExit: there is a row, but it is of another threshold or number of steps.
    """
    present = {(row.env, row.side, row.seed): row for row in rows}
    missing = []
    for job in wanted:
        row = present.get((job.env, job.side, job.seed))
        if row is None:
            missing.append(job)
        elif (row.threshold, row.cap) != (job.threshold, job.steps):
            raise SystemExit(
                f"{table}: {job} is there, with threshold {row.threshold:g} and at most {row.cap} steps; give these "
                "runs an --out of their own"
            )
    return missing


def train(job: Job, python: str, arguments: argparse.Namespace) -> tuple[Row, list[dict[str, Any]]]:
    """One run from the beginning, its row and its curve.

    Raises:
        ChildFailed: the training ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = f"{folder}/result.json"
        if job.side == "ppolab":
            settings = [f"env={TASKS[job.env].option}", f"seed={job.seed}", f"total_steps={job.steps}"]
            settings += ["trainer.threads=1", "env.num_threads=1"]
            command = [sys.executable, peer_script("ppolab_return.py"), "--out", result, *settings]
            shown = ["python", "src/train.py", *settings]
        else:
            options = ["--env", job.env, "--seed", str(job.seed), "--steps", str(job.steps)]
            options += ["--settings", job.side.removeprefix("sb3-")]
            options += [] if arguments.full else ["--stop-at", str(job.threshold)]
            options += [] if arguments.seconds is None else ["--stop-after", f"{arguments.seconds:g}"]
            command = [python, peer_script("sb3_return.py"), "--out", result, *options]
            shown = ["python", "benchmarks/peers/sb3_return.py", *options]
        child = run_child(command, Path(folder), ONE_THREAD)
    return run_row(job, child, arguments.jobs, shlex.join(shown)), curve_of(job, child)


def run_row(job: Job, child: Child, jobs: int, command: str) -> Row:
    """What a finished run is worth: when it passed the threshold, if it did."""
    points, first = child.record["points"], child.record["first_step"]
    point = first_crossing(points, job.threshold)
    full = [entry["return"] for entry in points if entry["episodes"] >= WINDOW]
    return Row(
        env=job.env, side=job.side, seed=job.seed, threshold=job.threshold, cap=job.steps, reached=point is not None,
        seconds=round(point["clock"] - child.started, 2) if point else None,
        seconds_from_first_step=round(point["clock"] - first, 2) if point else None,
        steps=point["steps"] if point else None,
        best_return=max(full, default=math.nan), last_return=full[-1] if full else math.nan,
        ran_steps=points[-1]["steps"] if points else 0, ran_seconds=round(child.record["ended"] - child.started, 2),
        launch_seconds=round(first - child.started, 2), jobs=jobs, load_before=round(child.load, 2), command=command,
        versions=version_text(child.record["versions"]),
    )  # fmt: skip


def first_crossing(points: Sequence[dict[str, Any]], threshold: float) -> dict[str, Any] | None:
    """The first point at which the mean of a full window of episodes is at or beyond the threshold."""
    return next((point for point in points if point["episodes"] >= WINDOW and point["return"] >= threshold), None)


def curve_of(job: Job, child: Child) -> list[dict[str, Any]]:
    """The points of a run to be kept, at most CURVE_POINTS and the last one among them."""
    points = child.record["points"]
    count = min(len(points), CURVE_POINTS)
    chosen = [points[(index + 1) * len(points) // count - 1] for index in range(count)]
    same = {"env": job.env, "side": job.side, "seed": job.seed}
    return [
        {
            **same, "seconds": round(point["clock"] - child.started, 2), "steps": point["steps"],
            "train_return": round(point["return"], 2), "episodes": point["episodes"],
        }
        for point in chosen
    ]  # fmt: skip


def report_all(arguments: argparse.Namespace) -> None:
    """Write the report and the picture; print the report."""
    rows = read_rows(arguments.out / "runs.csv", Row)
    if not rows:
        raise SystemExit(f"{arguments.out}: holds no runs; make some with: python benchmarks/time_to_return.py run")
    text = time_to_return_report.markdown(rows)
    (arguments.out / "report.md").write_text(text)
    time_to_return_report.draw(rows, arguments.out / "curves.csv", arguments.out / "curves.png")
    print(text)


if __name__ == "__main__":
    main()
