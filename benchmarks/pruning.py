"""What pruning saves: steps spent and quality found, on noisy learning curves whose best settings are known.

    python benchmarks/pruning.py

A trial's curve rises to a level that depends on its two settings; the best level is 1, at settings that every repeat
draws anew. What a trial reports is the curve plus noise. The study is ppolab's own (claims, sweep loop, pruners), with
two trials under way; only the training is made up. All pruners see the same landscapes.

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

from ppolab.study.engine import Job, Outcome, Sweep, TrialReport
from ppolab.study.run import open_study
from ppolab.study.settings import PRUNERS, Pruning, StudySettings
from ppolab.study.space import Interval, SearchSpace
from ppolab.study.storage import StudyStorage
from ppolab.study.trials import Claim, Trials

SPACE = SearchSpace({"x": Interval(0.0, 1.0), "y": Interval(1e-4, 1.0, log=True)})
COLUMNS = ("pruner", "repeat", "trials", "steps", "found", "pruned")


@dataclass(frozen=True)
class Landscape:
    """True levels over the settings, and how curves get there."""

    best_x: float
    best_log_y: float
    noise: float
    reports: int

    def level(self, claim: Claim) -> float:
        """The level that a trial's curve rises to; 1 at the best settings."""
        x, y = (float(str(claim.values[key])) for key in ("x", "y"))
        distance = (x - self.best_x) ** 2 + ((math.log10(y) - self.best_log_y) / 4) ** 2
        return math.exp(-6 * distance)

    def value(self, claim: Claim, step: int, random: np.random.Generator) -> float:
        """What a trial reports after `step` of `reports` steps."""
        rise = 1 - math.exp(-4 * step / self.reports)
        return self.level(claim) * rise + self.noise * random.standard_normal()


@dataclass
class SimulatedRunner:
    """Two runs at a time, each of them one report further at every `wait`."""

    landscape: Landscape
    trials: Trials
    random: np.random.Generator
    capacity: int = 2
    steps: int = 0
    pruned: int = 0
    under_way: dict[int, tuple[Job, int]] = field(default_factory=dict)

    def start(self, job: Job) -> None:
        """Begin at step 0."""
        self.under_way[job.claim.number] = (job, 0)

    def wait(self, _seconds: float) -> Sequence[Outcome]:
        """Every run takes one step and reports it."""
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
        """Nobody stops this sweep."""
        return []


class NoRecord:
    """Trials are counted here, not shown."""

    def begin(self, _claim: Claim) -> str | None:
        """No tracking run."""
        return None

    def end(self, _report: TrialReport) -> None:
        """Nothing to tell."""


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
    """The command line."""
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
    """One study on the repeat's landscape."""
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
    """A line per pruner."""
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
