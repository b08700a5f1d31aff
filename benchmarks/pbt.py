"""What population based training finds against random search, with as many environment steps in the same search space.

    python benchmarks/pbt.py

Each repeat makes both searches for Pendulum-v1, taking turns at being the first: `scheduler=pbt` with a population of
members, and `sampler=random` with as many trials, each of as many steps as a member. All settings that are not searched
are ppolab's defaults, the learning rate that falls to 0 over the whole run among them; each repeat has a seed of its
own, which the settings at the start follow from, too. Only populations spend time on comparing: each interval is a
process, and is evaluated at its end.

A search chooses one policy by its own evaluations of `--judged-by` episodes: the best member of the last generation, or
the best trial. `evaluated` is the mean return of that policy, as training left it, in `--episodes` further ones,
deterministic and with seeds that no training has seen. The steps that a search has really taken are counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from checkout_run import run_program
from processes import ROOT
from result_tables import append_rows, markdown, read_rows

from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.study.population_trials import segment_of
from ppolab.study.storage import open_storage

PBT, RANDOM = "pbt", "random search"
SPACE = (
    "optimizer.lr=tag(log, interval(1e-5,1e-2))", "clip=interval(0.05,0.4)",
    "entropy_coef=tag(log, interval(1e-5,1e-1))", "gamma=interval(0.8,0.999)", "gae_lambda=interval(0.8,0.99)",
)  # fmt: skip
TASK = ("env=pendulum", "num_envs=8", "rollout_steps=128")
SEED_OF_EVALUATION = 10_000
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
COPIED = "outputs/studies/s/plots/lineage.png"


@dataclass(frozen=True)
class Row:
    """One search: `chosen_by` is the return by which it chose its policy, `evaluated` that of the policy afterwards."""

    side: str
    repeat: int
    members: int
    steps_each: int
    steps_taken: int
    seconds: float
    chosen_by: float
    evaluated: float
    copies: int


def main() -> None:
    """Make both searches in turn, and print what they found."""
    arguments = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.first == 0:
        arguments.csv.unlink(missing_ok=True)
    rows = read_rows(arguments.csv, Row)
    for repeat in range(arguments.first, arguments.repeats):
        for side in (PBT, RANDOM) if repeat % 2 == 0 else (RANDOM, PBT):
            rows.append(search(side, repeat, arguments))
            append_rows(arguments.csv, Row, [rows[-1]])
            print(f"{side} {repeat}: {rows[-1].evaluated:.1f} after {rows[-1].seconds:,.0f} s", flush=True)
    print("\n".join(report(rows)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="searches of each side (5)")
    parser.add_argument("--first", type=int, default=0, help="the first repeat to make, after those in the CSV (0)")
    parser.add_argument("--members", type=int, default=8, help="members of a population, trials of a search (8)")
    parser.add_argument("--steps", type=int, default=49_152, help="environment steps of each (49152)")
    parser.add_argument("--interval", type=int, default=8_192, help="environment steps between comparisons (8192)")
    parser.add_argument("--judged-by", type=int, default=50, help="episodes of the searches' own evaluations (50)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--episodes", type=int, default=100, help="of the last evaluation (100)")
    results = ROOT / "docs" / "results" / "pbt.csv"
    parser.add_argument("--csv", type=Path, default=results, help="written anew, or added to (docs/results/pbt.csv)")
    parser.add_argument("--picture", type=Path, help="where the lineage of the first population is copied to")
    return parser.parse_args()


def search(side: str, repeat: int, arguments: argparse.Namespace) -> Row:
    """One search in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        run_program(ROOT, "train.py", folder, command_of(side, repeat, arguments), ONE_THREAD)
        seconds = time.perf_counter() - began
        trials = trials_of(folder)
        best = best_of(side, trials)
        judged = [f"run={best.user_attrs['folders'][-1]}", "checkpoint=last", f"episodes={arguments.episodes}"]
        judged += ["video=false", f"seed={SEED_OF_EVALUATION + repeat}"]
        run_program(ROOT, "evaluate.py", folder, judged, ONE_THREAD)
        (result,) = folder.rglob("result.json")
        if side == PBT and repeat == 0 and arguments.picture is not None:
            shutil.copy(folder / COPIED, arguments.picture)
        assert best.value is not None
        return Row(
            side, repeat, arguments.members, arguments.steps, sum(map(steps_of, trials)), round(seconds, 1), best.value,
            json.loads(result.read_text())["mean"], sum(copied(side, trial) for trial in trials),
        )  # fmt: skip


def command_of(side: str, repeat: int, arguments: argparse.Namespace) -> list[str]:
    """The settings of a search."""
    kinds = {
        PBT: ["scheduler=pbt", f"population={arguments.members}", f"scheduler.interval={arguments.interval}"],
        RANDOM: ["sampler=random", f"n_trials={arguments.members}", "eval_interval=0"],
    }
    shared = [f"total_steps={arguments.steps}", f"workers={arguments.workers}", f"seed={100 * repeat}"]
    shared.append(f"eval_episodes={arguments.judged_by}")
    return ["-m", *kinds[side], *TASK, *SPACE, *shared, "study_name=s", "logger=none", "progress=off"]


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The complete trials of the study `s`."""
    storage = open_storage(None, "s", folder / "outputs" / "studies")
    trials = optuna.load_study(study_name="s", storage=storage.optuna).trials
    return [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]


def best_of(side: str, trials: Sequence[optuna.trial.FrozenTrial]) -> optuna.trial.FrozenTrial:
    """The trial whose policy a search chooses."""
    if side == PBT:
        last = max(segment_of(trial).generation for trial in trials)
        trials = [trial for trial in trials if segment_of(trial).generation == last]
    return max(trials, key=lambda trial: trial.values[0])


def steps_of(trial: optuna.trial.FrozenTrial) -> int:
    """The environment steps that a trial has taken itself, without those before its segment."""
    steps = [int(row["step"]) for row in read_metrics(RunFolder(Path(trial.user_attrs["folders"][-1])).metrics)]
    parent = trial.user_attrs.get("folder")
    before = 0
    if parent is not None:
        before = int(read_metrics(RunFolder(Path(parent)).metrics)[-1]["step"])
    return max(steps) - before


def copied(side: str, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial began as a copy of another member."""
    return side == PBT and segment_of(trial).copied_from is not None


def report(rows: Sequence[Row]) -> list[str]:
    """A line per repeat, and the medians."""
    returns = {(row.side, row.repeat): row.evaluated for row in rows}
    repeats = sorted({row.repeat for row in rows if (PBT, row.repeat) in returns and (RANDOM, row.repeat) in returns})
    lines = [[str(repeat), *(f"{returns[side, repeat]:,.1f}" for side in (PBT, RANDOM))] for repeat in repeats]
    medians = [statistics.median(returns[side, repeat] for repeat in repeats) for side in (PBT, RANDOM)]
    better = sum(returns[PBT, repeat] > returns[RANDOM, repeat] for repeat in repeats)
    table = markdown(["repeat", PBT, RANDOM], [*lines, ["median", *(f"{value:,.1f}" for value in medians)]])
    return [*table, f"population based training is better in {better} of {len(repeats)} repeats"]


if __name__ == "__main__":
    main()
