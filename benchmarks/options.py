"""What the settings of PPO are worth: each switched to its other value, against the shipped defaults, over seeds.

    python benchmarks/options.py run --env hopper halfcheetah --seeds 0 1 2
    python benchmarks/options.py run --option value_clip squash_actions
    python benchmarks/options.py report

`run` trains with `python src/train.py env=... seed=... OVERRIDES`, `--jobs` processes at a time with one thread each.
One row per run goes to OUT/runs.csv; rows that are there are not run again, so a stopped benchmark goes on with the
same command. Seeds are the outer loop: what is there when it is stopped compares the same seeds. `report` writes
OUT/report.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from learning import RunFailed, train_one
from processes import ROOT
from result_tables import append_rows, markdown, read_rows

OPTIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    "target_kl": ("target_kl=null",),
    "anneal_lr": ("anneal_lr=false",),
    "adapt_lr": ("adapt_lr=true", "anneal_lr=false"),
    "lr": ("optimizer.lr=3e-4",),
    "betas": ("optimizer.betas=[0.9,0.999]",),
    "weight_decay": ("optimizer=adamw",),
    "recompute_advantages": ("recompute_advantages=false",),
    "normalize_advantages": ("normalize_advantages=true",),
    "normalize_observations": ("normalize_observations=false",),
    "normalize_rewards": ("normalize_rewards=false",),
    "normalize_values": ("normalize_values=true",),
    "value_clip": ("algorithm.value_clip=0.2",),
    "value_epochs": ("algorithm.value_epochs=10",),
    "anneal_clip": ("algorithm.anneal_clip=true",),
    "initial_log_std": ("model.initial_log_std=0.0",),
    "state_dependent_std": ("model.state_dependent_std=true",),
    "squash_actions": ("env.squash_actions=true",),
    "stagger": ("env.stagger=false",),
}
"""The other values, by the name of what they change."""


@dataclass(frozen=True)
class Row:
    """A finished run: mean return of its last 100 training episodes, and of the deterministic policy at its end."""

    option: str
    env: str
    env_id: str
    seed: int
    steps: int
    train_return: float
    eval_return: float
    seconds: float
    command: str
    versions: str


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True, metavar="{run,report}")
    common = argparse.ArgumentParser(add_help=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    common.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "options", help="folder of the tables")
    run = actions.add_parser("run", parents=[common], help="train what is not in the table yet")
    run.add_argument("--option", nargs="+", choices=list(OPTIONS), default=list(OPTIONS), metavar="NAME", help="which")
    run.add_argument("--env", nargs="+", default=["hopper", "halfcheetah"], help="options of conf/env")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each")
    run.add_argument("--steps", type=int, default=1_000_000, help="environment steps per run (1000000)")
    run.add_argument("--jobs", type=int, default=2, help="processes side by side (2)")
    run.add_argument("--runs", type=Path, default=ROOT / "outputs" / "benchmarks" / "options", help="the runs' folders")
    run.set_defaults(action=run_all)
    report = actions.add_parser("report", parents=[common], help="write report.md")
    report.set_defaults(action=report_all)
    arguments = parser.parse_args()
    arguments.action(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Train what has no row; exit code 1 if a run failed."""
    table = arguments.out / "runs.csv"
    present = {(row.option, row.env, row.seed) for row in read_rows(table, Row)}
    wanted = [
        (option, env, seed) for seed in arguments.seeds for env in arguments.env for option in arguments.option
    ]  # fmt: skip
    missing = [case for case in wanted if case not in present]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are in {table}; {len(missing)} to go", flush=True)
    failed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(train, arguments, *case): case for case in missing}
        for future in as_completed(futures):
            told = "{} {} seed {}".format(*futures[future])
            try:
                row = future.result()
            except RunFailed as error:
                failed += 1
                print(f"{told}: {error}", file=sys.stderr, flush=True)
                continue
            append_rows(table, Row, [row])
            print(f"{told}: train {row.train_return:,.1f}, eval {row.eval_return:,.1f}", flush=True)
    if failed:
        raise SystemExit(f"{failed} of {len(missing)} runs failed")


def train(arguments: argparse.Namespace, option: str, env: str, seed: int) -> Row:
    """One run.

    Raises:
        RunFailed: it ended with an error.
    """
    case = argparse.Namespace(
        label=option, override=OPTIONS[option], steps=arguments.steps, jobs=arguments.jobs, runs=arguments.runs,
        episodes=0,
    )  # fmt: skip
    done = asdict(train_one(case, env, seed)[0])
    return Row(option, **{field.name: done[field.name] for field in fields(Row)[1:]})


def report_all(arguments: argparse.Namespace) -> None:
    """Write OUT/report.md and print it."""
    rows = read_rows(arguments.out / "runs.csv", Row)
    if not rows:
        raise SystemExit(f"{arguments.out}: holds no runs; make them with: python benchmarks/options.py run")
    text = report(rows)
    (arguments.out / "report.md").write_text(text)
    print(text)


def report(rows: Sequence[Row]) -> str:
    """Markdown: per environment a table, a line per option in the order of OPTIONS."""
    lines = ["# What settings are worth", "", "Made by `python benchmarks/options.py report`.", ""]
    lines += [
        "Training: mean ± sd over seeds of the last 100 episodes' return. Difference: from the defaults with the same "
        "seeds, mean ± standard error; what is not several times its error may be chance. Deterministic: the last "
        "policy's evaluation, mean over seeds.", "",
    ]  # fmt: skip
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        steps = max(row.steps for row in mine)
        lines += [f"## {mine[0].env_id}", "", f"Up to {steps:,} environment steps.", ""]
        cells = [cells_of(name, [row for row in mine if row.option == name], mine) for name in OPTIONS]
        head = ("", "settings", "seeds", "training", "difference", "deterministic")
        lines += [*markdown(head, [line for line in cells if line], texts=2), ""]
    lines += [f"Versions: {versions}  " for versions in dict.fromkeys(row.versions for row in rows)]
    return "\n".join(lines) + "\n"


def cells_of(option: str, rows: Sequence[Row], everything: Sequence[Row]) -> tuple[str, ...]:
    """A line of a table; empty for an option without runs."""
    if not rows:
        return ()
    base = {row.seed: row.train_return for row in everything if row.option == "default"}
    differences = [row.train_return - base[row.seed] for row in rows if row.seed in base]
    return (
        option,
        " ".join(f"`{override}`" for override in OPTIONS[option]),
        str(len(rows)),
        spread([row.train_return for row in rows], 1.0),
        "" if option == "default" else spread(differences, max(1, len(differences)) ** 0.5),
        f"{statistics.fmean(row.eval_return for row in rows):,.0f}",
    )


def spread(values: Sequence[float], divisor: float) -> str:
    """Mean ± sd / divisor."""
    if not values:
        return ""
    more = f" ± {statistics.stdev(values) / divisor:,.0f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.0f}{more}"


if __name__ == "__main__":
    main()
