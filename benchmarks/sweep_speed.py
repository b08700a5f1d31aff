"""How fast a hyperparameter search gets through its trials: ppolab's sweeper against rl-zoo3's Optuna search.

    python benchmarks/sweep_speed.py
    python benchmarks/sweep_speed.py --sides ppolab --earlier CHECKOUT

All search PPO's settings for CartPole-v1 with TPE, without pruning, as many trials of as many steps, two at a time:
ppolab with `search=ppo_core` and everything as shipped (tracking in MLflow, evaluation, plots), rl-zoo3 with its own
space for PPO and `--n-jobs 2`, and `ppolab, same space`: ppolab with rl-zoo3's ranges, without KL early stopping,
normalisation and recomputed advantages, so that a trial with the same values makes the same gradient steps. Left out of
that space is what ppolab refuses: rollouts longer than a trial, and rollouts so short that a minibatch would not fit.
The sides take turns. A search that is not through after `--minutes` is stopped, and counts with the trials that it has
finished. With `--earlier`, the first search is made by another checkout of ppolab, too. Seconds count from typing the
command; the idle share is how much of the two workers' time no trial was under way, by Optuna's own time stamps.

rl-zoo3 is installed from the package index into an environment of its own the first time.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import peer_env
from processes import ROOT
from result_tables import append_rows, markdown

WORKERS = 2
SIDES = ("ppolab", "rl-zoo3", "ppolab, same space")
EARLIER = "ppolab, earlier"
SAME_SPACE = (
    "minibatch_size=4,8,16,32,64,128,256,512,1024", "rollout_steps=128,256,512,1024,2048", "num_envs=8",
    "gamma=interval(0.97,0.9999)", "gae_lambda=interval(0.9,0.9999)", "optimizer.lr=tag(log, interval(1e-5,2e-3))",
    "entropy_coef=tag(log, interval(1e-8,0.1))", "clip=0.1,0.2,0.3,0.4", "epochs=1,5,10,20",
    "max_grad_norm=interval(0.3,2)", "model.hidden_sizes=choice([64],[64,64],[256,256])", "model.activation=tanh,relu",
    "target_kl=null", "normalize_observations=false", "normalize_rewards=false", "normalize_advantages=true",
    "recompute_advantages=false", "anneal_lr=false",
)  # fmt: skip


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
    sides = [*arguments.sides, *([EARLIER] if arguments.earlier else [])]
    python = ""
    if "rl-zoo3" in sides:
        python = str(peer_env.ready(arguments.peer_env.absolute(), peer_env.requirements("zoo")))
    arguments.csv.unlink(missing_ok=True)
    rows = []
    for repeat in range(arguments.repeats):
        for side in sides[::-1] if repeat % 2 else sides:
            row = search(side, repeat, python, arguments)
            rows.append(row)
            append_rows(arguments.csv, Row, [row])
            print(f"{side} {repeat}: {row.seconds:,.0f} s, {row.trials_per_minute:.1f} trials/min", flush=True)
    print("\n".join(report(rows)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="what is measured (all)")
    parser.add_argument("--earlier", type=Path, help="a checkout of ppolab to compare with")
    parser.add_argument("--repeats", type=int, default=3, help="searches of each side (3)")
    parser.add_argument("--trials", type=int, default=40, help="per search (40)")
    parser.add_argument("--minutes", type=float, default=25, help="after which a search is stopped (25)")
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
        with (Path(folder) / "output.txt").open("w+") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdout=output, stderr=output, start_new_session=True, env=environment(command)
            )
            try:
                code = process.wait(60 * arguments.minutes)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = 0
            seconds, ended = time.perf_counter() - started, datetime.datetime.now()
            output.seek(0)
            if code:
                raise SystemExit(f"{side}: exit code {code}\n{output.read()[-3000:]}")
        trials = trials_of(Path(folder) / journal)
    return row_of(side, repeat, trials, arguments.steps, seconds, ended)


def row_of(
    side: str, repeat: int, trials: Sequence[optuna.trial.FrozenTrial], steps: int, seconds: float,
    ended: datetime.datetime,
) -> Row:  # fmt: skip
    """From all trials of a search that took `seconds`; those that `ended` stopped are work, but do not count."""
    finished = [trial for trial in trials if trial.state.is_finished()]
    begun = [(trial.datetime_start, trial.datetime_complete or ended) for trial in trials]
    busy = sum((end - start).total_seconds() for start, end in begun if start is not None)
    best = max(trial.value for trial in finished if trial.value is not None)
    return Row(
        side, repeat, len(finished), steps, round(seconds, 1), round(60 * len(finished) / seconds, 2),
        round(1 - busy / (WORKERS * seconds), 3), best,
    )  # fmt: skip


def command_of(side: str, repeat: int, python: str, arguments: argparse.Namespace) -> tuple[list[str], str]:
    """(command, the study's journal below its folder)."""
    steps, trials = str(arguments.steps), str(arguments.trials)
    if side != "rl-zoo3":
        space = list(SAME_SPACE) if side == "ppolab, same space" else ["search=ppo_core"]
        source = (arguments.earlier.absolute() if side == EARLIER else ROOT) / "src"
        settings = [f"total_steps={steps}", f"n_trials={trials}", f"workers={WORKERS}", f"seed={repeat}"]
        command = [sys.executable, str(source / "train.py"), "-m", *space, "env=cartpole"]
        return [*command, "sampler=tpe", "study_name=s", *settings], "outputs/studies/s.journal"
    options = ["--algo", "ppo", "--env", "CartPole-v1", "-n", steps, "-optimize", "--n-trials", trials]
    options += ["--n-jobs", str(WORKERS), "--sampler", "tpe", "--pruner", "none", "--seed", str(repeat)]
    options += ["--storage", "study.log", "--study-name", "s", "--no-optim-plots", "--verbose", "0"]
    return [python, "-m", "rl_zoo3.train", *options, "--num-threads", "1"], "study.log"


def environment(command: Sequence[str]) -> dict[str, str]:
    """Return the variables of a search, in which the package beside the script comes before one that is installed."""
    return (
        {**os.environ, "PYTHONPATH": str(Path(command[1]).parent)}
        if command[1].endswith("train.py")
        else {**os.environ}
    )


def trials_of(journal: Path) -> list[optuna.trial.FrozenTrial]:
    """All trials of the study `s`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return study.trials


def report(rows: Sequence[Row]) -> list[str]:
    """A line per side, and the ratios of the medians of trials per minute."""
    lines = []
    for side in dict.fromkeys(row.side for row in rows):
        mine = [row for row in rows if row.side == side]
        names = ("trials", "seconds", "trials_per_minute", "idle_share")
        trials, seconds, speed, idle = (statistics.median(getattr(row, name) for row in mine) for name in names)
        lines.append([side, f"{trials:g}", f"{seconds:,.0f}", f"{speed:.1f}", f"{idle:.0%}"])
    table = markdown(["", "trials", "seconds", "trials per minute", "workers idle"], lines)
    for peer, named in (("rl-zoo3", "rl-zoo3's"), (EARLIER, "the earlier checkout's")):
        for side in ("ppolab", "ppolab, same space"):
            if ratios := _ratios(rows, side, peer):
                middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
                table.append(f"{side}: {middle:.2f} ({low:.2f} to {high:.2f}) times {named} trials per minute")
    return table


def _ratios(rows: Sequence[Row], side: str, peer: str) -> list[float]:
    """Return the ratio of trials per minute in each repeat that has both sides."""
    speeds = {(row.side, row.repeat): row.trials_per_minute for row in rows}
    return [
        speed / speeds[peer, repeat]
        for (name, repeat), speed in speeds.items()
        if name == side and (peer, repeat) in speeds
    ]


if __name__ == "__main__":
    main()
