"""Returns over seeds: train, cross-check in Gymnasium's own environment, and report.

    python benchmarks/learning.py run --env hopper walker2d --seeds 0 1 2 --jobs 2
    python benchmarks/learning.py run --label tuned --env swimmer reacher --override experiment=tuned/{env}
    python benchmarks/learning.py run --label dm_control --env CheetahRun-v1 --steps 8000000 --episodes 0
    python benchmarks/learning.py evaluate
    python benchmarks/learning.py report

`run` starts the real command, `python src/train.py env=... seed=...`, with the shipped settings except one thread per
process, `--jobs` processes at a time, then plays 20 deterministic episodes of the final policy with `src/evaluate.py`,
whose environment is Gymnasium's and not the one trained in. One row per run goes to OUT/LABEL.csv, a learning curve of
at most 100 points to OUT/LABEL_curves.csv. Rows that are there are not run again, so a stopped benchmark goes on with
the same command. `evaluate` makes up for evaluations that are missing. `report` writes OUT/report.md and a picture per
label.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import learning_report
from omegaconf import OmegaConf
from processes import ROOT, versions
from result_tables import append, append_rows, read_rows

CURVE_POINTS = 100
ENV_ID = re.compile(r"-v\d+$")
CURVE_COLUMNS = ("env_id", "seed", "step", "train_return")


@dataclass(frozen=True)
class Row:
    """One finished run. `train_return` is the mean of its last 100 training episodes, `gymnasium_...` of the
    deterministic final policy in Gymnasium's environment (empty: not evaluated)."""

    env: str
    env_id: str
    seed: int
    steps: int
    train_return: float
    eval_return: float
    eval_return_std: float
    best_eval_return: float
    gymnasium_return: float | None
    gymnasium_return_std: float | None
    gymnasium_episodes: int | None
    seconds: float
    steps_per_second: float
    jobs: int
    command: str
    versions: str


class RunFailed(Exception):
    """A command ended with an error; the message has what it said last."""


def main() -> None:
    """Do what the first argument says."""
    arguments = parse_arguments()
    arguments.action(arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True, metavar="{run,evaluate,report}")
    common = argparse.ArgumentParser(add_help=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    common.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "learning", help="folder of the tables")
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument("--label", default="default", help="name of the variant and of its files (default)")
    runs.add_argument("--episodes", type=int, default=20, help="episodes in Gymnasium's environment, 0: none (20)")
    runs.add_argument("--evaluation-seed", type=int, default=100, help="of these episodes (100)")
    runs.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "benchmarks" / "learning",
        help="where the runs' own folders are kept, by label (outputs/benchmarks/learning)",
    )  # fmt: skip
    run = actions.add_parser("run", parents=[common, runs], help="train what is not in the table yet")
    run.add_argument(
        "--env", nargs="+", default=["hopper", "halfcheetah", "walker2d"], help="options of conf/env, or ids"
    )
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="one run each")
    run.add_argument("--steps", type=int, default=1_000_000, help="environment steps per run (1000000)")
    run.add_argument("--jobs", type=int, default=2, help="processes side by side (2)")
    run.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE",
        help="a setting, repeatable; {env} stands for each of --env",
    )  # fmt: skip
    run.set_defaults(action=run_all)
    evaluate = actions.add_parser("evaluate", parents=[common, runs], help="evaluate runs that lack it")
    evaluate.set_defaults(action=evaluate_all)
    report = actions.add_parser("report", parents=[common], help="write report.md and the pictures")
    report.set_defaults(action=report_all)
    return parser.parse_args()


# --- run -------------------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Train every (environment, seed) that has no row; exit code 1 if one failed."""
    table = arguments.out / f"{arguments.label}.csv"
    present = {(row.env, row.seed): row for row in read_rows(table, Row)}
    wanted = [(env, seed) for seed in arguments.seeds for env in arguments.env]
    for env, seed in wanted:
        if (env, seed) in present and present[env, seed].command != shlex.join(train_command(arguments, env, seed)):
            raise SystemExit(
                f"{table}: env={env} seed={seed} is there, from another command ({present[env, seed].command}); "
                "give this variant a --label of its own"
            )
    missing = [pair for pair in wanted if pair not in present]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are in {table}; {len(missing)} to go", flush=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(train_one, arguments, env, seed): f"{env} seed {seed}" for env, seed in missing}
        failed = collect(futures, table)
    if failed:
        raise SystemExit(f"{failed} of {len(missing)} runs failed")


def collect(futures: Mapping[Future[tuple[Row, list[dict[str, Any]]]], str], table: Path) -> int:
    """Store what finishes as it finishes; the number of failures."""
    failed = 0
    try:
        for future in as_completed(futures):
            try:
                row, curve = future.result()
            except RunFailed as error:
                failed += 1
                print(f"{futures[future]}: {error}", file=sys.stderr, flush=True)
                continue
            append(curve_file(table), CURVE_COLUMNS, curve)
            append_rows(table, Row, [row])
            gymnasium = "" if row.gymnasium_return is None else f", Gymnasium {row.gymnasium_return:,.1f}"
            print(f"{futures[future]}: train {row.train_return:,.1f}, eval {row.eval_return:,.1f}{gymnasium}, "
                  f"{row.seconds:,.0f} s", flush=True)  # fmt: skip
    except KeyboardInterrupt:  # the children got the signal from the terminal, too
        for future in futures:
            future.cancel()
        raise SystemExit(130) from None
    return failed


def train_command(arguments: argparse.Namespace, env: str, seed: int) -> list[str]:
    """What a user would type."""
    choice = f"env.id={env}" if ENV_ID.search(env) else f"env={env}"
    settings = [choice, f"seed={seed}", f"total_steps={arguments.steps}"]
    settings += ["logger=none", "trainer.threads=1", "env.num_threads=1"]
    settings += [override.replace("{env}", env) for override in arguments.override]
    return ["python", "src/train.py", *settings]


def train_one(arguments: argparse.Namespace, env: str, seed: int) -> tuple[Row, list[dict[str, Any]]]:
    """One run from the beginning, its evaluation, its row and its curve.

    Raises:
        RunFailed: the training ended with an error.
    """
    folder = run_folder(arguments, env, seed)
    shutil.rmtree(folder, ignore_errors=True)
    command, tried = train_command(arguments, env, seed), versions()  # now: the checkout may change meanwhile
    started = time.perf_counter()
    call([*command, f"hydra.run.dir='{folder}'"])
    seconds = time.perf_counter() - started
    metrics = read_metrics(folder / "metrics.csv")
    env_id = str(OmegaConf.load(folder / "config.yaml").env.id)
    row = Row(
        env=env, env_id=env_id, seed=seed, steps=int(metrics[-1]["step"]),
        train_return=last(metrics, "train/return"), eval_return=last(metrics, "eval/return"),
        eval_return_std=last(metrics, "eval/return_std"),
        best_eval_return=max(entry["eval/return"] for entry in metrics if "eval/return" in entry),
        gymnasium_return=None, gymnasium_return_std=None, gymnasium_episodes=None, seconds=round(seconds, 1),
        steps_per_second=round(metrics[-1]["step"] / seconds), jobs=arguments.jobs, command=shlex.join(command),
        versions=tried,
    )  # fmt: skip
    if arguments.episodes:
        try:
            row = evaluated(row, folder, arguments)
        except RunFailed as error:  # the training is worth keeping; `evaluate` makes up for it
            print(f"{env} seed {seed}: not evaluated: {error}", file=sys.stderr, flush=True)
    points = thinned([entry for entry in metrics if "train/return" in entry])
    curve = [
        {"env_id": env_id, "seed": seed, "step": int(entry["step"]), "train_return": round(entry["train/return"], 2)}
        for entry in points
    ]
    return row, curve


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv, each with what was measured."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def last(metrics: list[dict[str, float]], name: str) -> float:
    """The newest value of a metric; NaN if there is none (no training episode has ended)."""
    return next((round(entry[name], 3) for entry in reversed(metrics) if name in entry), math.nan)


def thinned(entries: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most CURVE_POINTS of them, evenly spread, the last one included."""
    count = min(len(entries), CURVE_POINTS)
    return [entries[(index + 1) * len(entries) // count - 1] for index in range(count)]


# --- evaluate --------------------------------------------------------------------------------------------------------


def evaluate_all(arguments: argparse.Namespace) -> None:
    """Evaluate every run of the label that has no evaluation in Gymnasium yet, and rewrite its table."""
    table = arguments.out / f"{arguments.label}.csv"
    rows = read_rows(table, Row)
    failed = 0
    for index, row in enumerate(rows):
        if row.gymnasium_return is not None:
            continue
        try:
            rows[index] = evaluated(row, run_folder(arguments, row.env, row.seed), arguments)
        except RunFailed as error:
            failed += 1
            print(f"{row.env} seed {row.seed}: {error}", file=sys.stderr)
            continue
        print(
            f"{row.env} seed {row.seed}: train {row.train_return:,.1f}, Gymnasium {rows[index].gymnasium_return:,.1f}"
        )
        temporary = table.with_suffix(".tmp")
        append_rows(temporary, Row, rows)
        temporary.replace(table)
    if failed:
        raise SystemExit(f"{failed} evaluations failed")


def evaluated(row: Row, folder: Path, arguments: argparse.Namespace) -> Row:
    """`row` with the final policy's returns in Gymnasium's environment."""
    seed = arguments.evaluation_seed
    settings = ["checkpoint=last", f"episodes={arguments.episodes}", f"seed={seed}", "video=false"]
    call(["python", "src/evaluate.py", f"run='{folder}'", *settings])
    (stored,) = (folder / "evaluations").glob(f"last-seed{seed}*/result.json")  # its name also tells the episodes
    result = json.loads(stored.read_text())
    return replace(
        row, gymnasium_return=round(result["mean"], 3), gymnasium_return_std=round(result["std"], 3),
        gymnasium_episodes=len(result["returns"]),
    )  # fmt: skip


# --- report ----------------------------------------------------------------------------------------------------------


def report_all(arguments: argparse.Namespace) -> None:
    """Write OUT/report.md and a picture per label; print the report."""
    tables = [path for path in sorted(arguments.out.glob("*.csv")) if not path.stem.endswith("_curves")]
    if not tables:
        raise SystemExit(f"{arguments.out}: holds no table; make one with: python benchmarks/learning.py run")
    labels = {}
    for table in tables:
        rows = [asdict(row) for row in read_rows(table, Row)]
        picture = table.with_suffix(".png")
        learning_report.draw(table.stem, rows, read_curves(curve_file(table)), picture)
        labels[table.stem] = rows
    text = learning_report.markdown(labels)
    (arguments.out / "report.md").write_text(text)
    print(text)


# --- files and processes ---------------------------------------------------------------------------------------------


def run_folder(arguments: argparse.Namespace, env: str, seed: int) -> Path:
    """Where a run keeps its checkpoints."""
    folder: Path = arguments.runs.absolute() / arguments.label / f"{env.replace('/', '-')}-seed{seed}"
    return folder


def curve_file(table: Path) -> Path:
    """The learning curves that belong to a table."""
    return table.with_name(f"{table.stem}_curves.csv")


def read_curves(path: Path) -> list[dict[str, str]]:
    """The points of all curves; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def call(command: list[str]) -> None:
    """Run a command of this repository, `python` being the one that runs this program.

    Raises:
        RunFailed: it ended with an error.
    """
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RunFailed(f"{shlex.join(command)}: exit code {done.returncode}: {' / '.join(said)}")


if __name__ == "__main__":
    main()
