"""Measure what pruning saves: steps spent and quality found, on noisy learning curves with known best settings.

    python benchmarks/pruning.py

A trial's curve rises to a level that depends on its two settings; the best level is 1, at settings that every repeat
draws anew. What a trial reports is the curve plus noise. The study is ppolab's own (claims, sweep loop, pruners), with
two trials under way; only the training is made up. All pruners see the same landscapes.

All curves report at the same steps, 1 to `--reports`, by construction, and a pruner compares values at equal steps
only. Runs of ppolab share their steps too, since they report the multiple of eval_interval that they passed; so the
benchmark says nothing about evaluations at steps that differ.

`found` is the true level of the trial that the study calls its best. Rows go to the CSV, medians to the terminal.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
from result_tables import append, markdown

from ppolab.study.claims import Claim, Trials
from ppolab.study.run_study import open_study
from ppolab.study.search_space import Interval, SearchSpace
from ppolab.study.settings import PRUNERS, Pruning, StudySettings
from ppolab.study.storage import StudyStorage
from ppolab.study.sweep_loop import Job, Outcome, Sweep, TrialReport

SPACE = SearchSpace({"x": Interval(0.0, 1.0), "y": Interval(1e-4, 1.0, log=True)})
COLUMNS = ("pruner", "repeat", "trials", "steps", "found", "pruned")


@dataclass(frozen=True)
class Landscape:
    """Hold true levels over the settings, and the way that curves get there."""

    best_x: float
    best_log_y: float
    noise: float
    reports: int

    def level(self, claim: Claim) -> float:
        """Return the level that a trial's curve rises to; 1 at the best settings."""
        x, y = (float(str(claim.values[key])) for key in ("x", "y"))
        distance = (x - self.best_x) ** 2 + ((math.log10(y) - self.best_log_y) / 4) ** 2
        return math.exp(-6 * distance)

    def value(self, claim: Claim, step: int, random: np.random.Generator) -> float:
        """Return the report of a trial after `step` of `reports` steps."""
        rise = 1 - math.exp(-4 * step / self.reports)
        return self.level(claim) * rise + self.noise * random.standard_normal()


@dataclass
class SimulatedRunner:
    """Run two trials at a time, each of them one report further at every `wait`."""

    landscape: Landscape
    trials: Trials
    random: np.random.Generator
    capacity: int = 2
    steps: int = 0
    pruned: int = 0
    under_way: dict[int, tuple[Job, int]] = field(default_factory=dict)

    def start(self, job: Job) -> None:
        """Begin a trial at step 0."""
        self.under_way[job.claim.number] = (job, 0)

    def wait(self, _seconds: float) -> Sequence[Outcome]:
        """Let every trial take one step and report it; return those that ended."""
        outcomes = []
        for number, (job, step) in list(self.under_way.items()):
            self.steps += 1
            value = self.landscape.value(job.claim, step + 1, self.random)
            stop = self.trials.report(job.claim, step + 1, value)
            ended = step + 1 == self.landscape.reports
            if stop or ended:
                del self.under_way[number]
                self.pruned += not ended
                outcomes.append(Outcome(job, "complete" if ended else "pruned", (value,)))
            else:
                self.under_way[number] = (job, step + 1)
        return outcomes

    def stop(self) -> Sequence[Outcome]:
        """Return nothing, since nobody stops this sweep."""
        return []


class NoRecord:
    """Show nothing: the runner counts."""

    def begin(self, _claim: Claim) -> str | None:
        """Return no tracking run."""
        return None

    def end(self, _report: TrialReport) -> None:
        """Do nothing."""


def main() -> None:
    """Run all repeats of all pruners, and print the medians."""
    arguments = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments.csv.unlink(missing_ok=True)
    rows = []
    for repeat in range(arguments.repeats):
        for pruner in arguments.pruners:
            rows.append(one_study(pruner, repeat, arguments))
            append(arguments.csv, COLUMNS, rows[-1:])
    print("\n".join(report(rows, arguments.pruners)))


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="landscapes (20)")
    parser.add_argument("--trials", type=int, default=60, help="per study (60)")
    parser.add_argument("--reports", type=int, default=20, help="a trial's steps (20)")
    parser.add_argument("--noise", type=float, default=0.05, help="standard deviation of a report (0.05)")
    parser.add_argument("--pruners", nargs="+", default=["none", "median", "hyperband"], choices=PRUNERS)
    parser.add_argument(
        "--csv", type=Path, default=Path("docs/results/pruning.csv"), help="written anew (docs/results/pruning.csv)"
    )
    return parser.parse_args()


def one_study(pruner: str, repeat: int, arguments: argparse.Namespace) -> dict[str, float | str]:
    """Run one study on the repeat's landscape; return a row of the CSV."""
    drawn = np.random.default_rng([repeat, 1])
    landscape = Landscape(drawn.uniform(0.1, 0.9), drawn.uniform(-3.5, -0.5), arguments.noise, arguments.reports)
    settings = StudySettings(
        name=f"{pruner}-{repeat}", objectives=("level",), directions=("maximize",), n_trials=arguments.trials,
        timeout=None, workers=2, seeds_per_trial=1, max_failures=1, seed=repeat, sampler="tpe",
        pruning=Pruning(pruner, 1, arguments.reports),
    )  # fmt: skip
    storage = StudyStorage(optuna.storages.InMemoryStorage(), "memory", nullcontext)
    study = open_study(settings, SPACE, storage)
    trials = Trials(study, storage, SPACE)
    runner = SimulatedRunner(landscape, trials, np.random.default_rng([repeat, 2]))
    Sweep(settings, trials, runner, NoRecord(), lambda: False).run()
    best = study.best_trial
    found = landscape.level(Claim(best.number, best._trial_id, best.params, again=False))
    return {
        "pruner": pruner, "repeat": repeat, "trials": arguments.trials, "steps": runner.steps,
        "found": round(found, 4), "pruned": runner.pruned,
    }  # fmt: skip


def report(rows: Sequence[dict[str, float | str]], pruners: Sequence[str]) -> list[str]:
    """Return a table with a line per pruner."""
    full = statistics.median(_column(rows, pruners[0], "steps"))
    lines = []
    for pruner in pruners:
        steps, found = _column(rows, pruner, "steps"), _column(rows, pruner, "found")
        quartiles = statistics.quantiles(found, n=4) if len(found) > 1 else [found[0]] * 3
        lines.append([
            pruner, f"{statistics.median(steps):,.0f}", f"{statistics.median(steps) / full:.2f}",
            f"{statistics.median(found):.3f}", f"{quartiles[0]:.3f} to {quartiles[2]:.3f}",
            f"{statistics.median(_column(rows, pruner, 'pruned')):.0f}",
        ])  # fmt: skip
    head = ["pruner", "steps", f"of {pruners[0]}", "true level found, median", "quartiles", "trials pruned"]
    return markdown(head, lines)


def _column(rows: Sequence[dict[str, float | str]], pruner: str, name: str) -> list[float]:
    return [float(row[name]) for row in rows if row["pruner"] == pruner]


if __name__ == "__main__":
    main()
