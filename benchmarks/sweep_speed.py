"""How fast a hyperparameter search gets through its trials: ppolab's sweeper against rl-zoo3's Optuna search.

    python benchmarks/sweep_speed.py

Both search PPO's settings for CartPole-v1 with TPE, without pruning, as many trials of as many steps, two at a time:
ppolab with `search=ppo_core` and everything as shipped (tracking in MLflow, evaluation, plots), rl-zoo3 with its own
space for PPO and `--n-jobs 2`. The spaces are not the same, so neither are the settings that the trials train with; the
budget in environment steps is. The sides take turns. Seconds count from typing the command until it returns; the idle
share is how much of the two workers' time no trial was under way, by Optuna's own time stamps.

rl-zoo3 is installed from the package index into an environment of its own the first time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import optuna
import peer_env
from processes import ROOT
from result_tables import append, markdown

WORKERS = 2
SIDES = ("ppolab", "rl-zoo3")


@dataclass(frozen=True)
class Row:
    """One search."""

    side: str
    repeat: int
    trials: int
    steps: int
    seconds: float
    trials_per_minute: float
    idle_share: float
    best: float


def main() -> None:
    """Run the sides in turn, and print medians."""
    arguments = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    python = peer_env.ready(arguments.peer_env.absolute(), peer_env.requirements("zoo"))
    arguments.csv.unlink(missing_ok=True)
    rows = []
    for repeat in range(arguments.repeats):
        for side in SIDES:
            row = search(side, repeat, str(python), arguments)
            rows.append(row)
            append(arguments.csv, [field.name for field in fields(Row)], [asdict(row)])
            print(f"{side} {repeat}: {row.seconds:,.0f} s, {row.trials_per_minute:.1f} trials/min", flush=True)
    print("\n".join(report(rows)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="searches of each side (3)")
    parser.add_argument("--trials", type=int, default=40, help="per search (40)")
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of a trial (20000)")
    results = ROOT / "docs" / "results" / "sweep_speed.csv"
    parser.add_argument("--csv", type=Path, default=results, help="written anew (docs/results/sweep_speed.csv)")
    parser.add_argument(
        "--peer-env", type=Path, default=ROOT / "outputs" / "peers" / "zoo",
        help="rl-zoo3's virtual environment (outputs/peers/zoo in the repository)",
    )  # fmt: skip
    return parser.parse_args()


def search(side: str, repeat: int, python: str, arguments: argparse.Namespace) -> Row:
    """One search in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command, journal = command_of(side, repeat, python, arguments)
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{side}: exit code {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        trials = trials_of(Path(folder) / journal)
    if len(trials) != arguments.trials:
        raise SystemExit(f"{side}: {len(trials)} trials instead of {arguments.trials}")
    busy = sum(trial.duration.total_seconds() for trial in trials if trial.duration is not None)
    best = max(trial.value for trial in trials if trial.value is not None)
    return Row(
        side, repeat, len(trials), arguments.steps, round(seconds, 1), round(60 * len(trials) / seconds, 2),
        round(1 - busy / (WORKERS * seconds), 3), best,
    )  # fmt: skip


def command_of(side: str, repeat: int, python: str, arguments: argparse.Namespace) -> tuple[list[str], str]:
    """(command, the study's journal below its folder)."""
    steps, trials = str(arguments.steps), str(arguments.trials)
    if side == "ppolab":
        settings = [f"total_steps={steps}", f"n_trials={trials}", f"workers={WORKERS}", f"seed={repeat}"]
        command = [sys.executable, str(ROOT / "src" / "train.py"), "-m", "search=ppo_core", "env=cartpole"]
        return [*command, "sampler=tpe", "study_name=s", *settings], "outputs/studies/s.journal"
    options = ["--algo", "ppo", "--env", "CartPole-v1", "-n", steps, "-optimize", "--n-trials", trials]
    options += ["--n-jobs", str(WORKERS), "--sampler", "tpe", "--pruner", "none", "--seed", str(repeat)]
    options += ["--storage", "study.log", "--study-name", "s", "--no-optim-plots", "--verbose", "0"]
    return [python, "-m", "rl_zoo3.train", *options, "--num-threads", "1"], "study.log"


def trials_of(journal: Path) -> list[optuna.trial.FrozenTrial]:
    """The finished trials of the study `s`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return [trial for trial in study.trials if trial.state.is_finished()]


def report(rows: Sequence[Row]) -> list[str]:
    """A line per side, and the ratio of trials per minute, search by search."""
    lines = []
    for side in SIDES:
        mine = [row for row in rows if row.side == side]
        middle = {name: statistics.median(getattr(row, name) for row in mine) for name in ("seconds", "idle_share")}
        speed = statistics.median(row.trials_per_minute for row in mine)
        lines.append([side, f"{middle['seconds']:,.0f}", f"{speed:.1f}", f"{middle['idle_share']:.0%}"])
    pairs = zip(*([row.trials_per_minute for row in rows if row.side == side] for side in SIDES), strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    table = markdown(["", "seconds", "trials per minute", "workers idle"], lines)
    return [*table, "", f"ratio: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"]


if __name__ == "__main__":
    main()
