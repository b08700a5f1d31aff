"""Table 1 of the PPO paper (Schulman et al. 2017, arXiv:1707.06347, section 6.1), with intervals that it did not have.

    python src/train.py -m search=paper_table1 env=hopper     # and the other tasks; each goes on where it was stopped
    python benchmarks/paper_table1.py

Reads the finished runs of the MLflow experiment paper_table1 and adds them to OUT/runs.csv, where they are kept when
the store is gone. A run's score is its mean return over the last 100 training episodes. On each task scores are scaled
so that uniformly random actions (100 episodes in Gymnasium's own environment, OUT/random.csv) get 0 and the setting
with the best mean gets 1; then they are averaged over runs and tasks. Only tasks on which every setting has run, and
one of them did better than random, count. Of several runs of a task, setting and seed the newest counts.
Intervals: 95 %, 2,000 resamples of runs within each task; the scaling stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import gymnasium
import numpy as np
from processes import ROOT
from result_tables import append_rows, markdown, read_rows

from ppolab.core.statistics import Bootstrap, mean
from ppolab.errors import TrackingError
from ppolab.records.run_folder import OUTPUTS
from ppolab.records.tracking import StoredRun, StoreReader, resolve_tracking_uri

EXPERIMENT = "paper_table1"
METRIC = "train/return"
RANDOM_EPISODES = 100
PAPER = {
    "no clipping": -0.39,
    "clip 0.1": 0.76, "clip 0.2": 0.82, "clip 0.3": 0.70,
    "adaptive 0.003": 0.68, "adaptive 0.01": 0.74, "adaptive 0.03": 0.71,
    "fixed 0.3": 0.62, "fixed 1": 0.71, "fixed 3": 0.72, "fixed 10": 0.69,
}  # fmt: skip
"""The settings, and the averages that the paper gives."""


@dataclass(frozen=True)
class Run:
    """A finished run of the study."""

    task: str
    setting: str
    seed: int
    steps: int
    score: float
    run_id: str


@dataclass(frozen=True)
class RandomScore:
    """What random actions get on a task."""

    task: str
    score: float


@dataclass(frozen=True)
class Rank:
    """A setting's average over tasks, and its interval."""

    setting: str
    average: float
    low: float
    high: float


def main() -> None:
    """Collect, scale, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "paper_table1")
    parser.add_argument("--tracking-uri", help="MLFLOW_TRACKING_URI or outputs/mlflow.db unless given")
    arguments = parser.parse_args()
    runs = collect(arguments.out / "runs.csv", arguments.tracking_uri)
    lengths = Counter(run.steps for run in newest(runs))
    scores = grouped(runs)
    floors = random_scores(arguments.out / "random.csv", sorted(scores))
    text = report(scores, floors, lengths)
    (arguments.out / "table1.md").write_text(text)
    print(text)


# --- runs ------------------------------------------------------------------------------------------------------------


def collect(table: Path, uri: str | None) -> list[Run]:
    """All runs that `table` has or the store, where there is one, adds to it; exit if there are none."""
    known = {run.run_id: run for run in read_rows(table, Run)}
    stored: list[StoredRun] = []
    try:
        reader = StoreReader(resolve_tracking_uri(uri, ROOT / OUTPUTS))
        stored = reader.runs(EXPERIMENT, {}) if EXPERIMENT in reader.experiments() else []
    except TrackingError as error:
        print(f"{error}; only what {table} holds is compared", file=sys.stderr)
    new = [as_run(run) for run in reversed(stored) if run.run_id not in known and counts(run)]  # the newest last
    append_rows(table, Run, new)
    runs = [*known.values(), *new]
    if not runs:
        raise SystemExit(f"the experiment {EXPERIMENT} has no finished run: see how to start them with --help")
    return runs


def counts(run: StoredRun) -> bool:
    """Whether it is a run that came to its end, not the parent of others."""
    return run.status == "FINISHED" and METRIC in run.metrics and "env.id" in run.parameters


def as_run(run: StoredRun) -> Run:
    """What is kept of it."""
    parameters = run.parameters
    return Run(
        parameters["env.id"], setting_of(parameters), int(parameters["seed"]), int(parameters["total_steps"]),
        run.metrics[METRIC], run.run_id,
    )  # fmt: skip


def setting_of(parameters: Mapping[str, str]) -> str:
    """As the paper calls it.

    Raises:
        SystemExit: the experiment holds a run that is none of the table's.
    """
    algorithm = parameters["algorithm.name"]
    if algorithm == "unclipped":
        name = "no clipping"
    elif algorithm == "ppo_clip":
        name = f"clip {float(parameters['clip']):g}"
    elif parameters.get("algorithm.d_targ", "None") == "None":
        name = f"fixed {float(parameters['algorithm.beta']):g}"
    else:
        name = f"adaptive {float(parameters['algorithm.d_targ']):g}"
    if name not in PAPER:
        raise SystemExit(f"the experiment {EXPERIMENT} holds a run with {name}, which Table 1 does not have")
    return name


def newest(runs: Sequence[Run]) -> list[Run]:
    """One for each task, setting and seed: the last of `runs`."""
    return list({(run.task, run.setting, run.seed): run for run in runs}.values())


def grouped(runs: Sequence[Run]) -> dict[str, dict[str, dict[int, float]]]:
    """Scores of the newest by task, setting and seed."""
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for run in newest(runs):
        scores.setdefault(run.task, {}).setdefault(run.setting, {})[run.seed] = run.score
    return scores


def random_scores(table: Path, tasks: Sequence[str]) -> dict[str, float]:
    """By task; measured once and kept in `table`."""
    known = {row.task: row.score for row in read_rows(table, RandomScore)}
    new = [RandomScore(task, round(random_return(task), 3)) for task in tasks if task not in known]
    append_rows(table, RandomScore, new)
    return known | {row.task: row.score for row in new}


def random_return(task: str) -> float:
    """Mean return of episodes with uniformly random actions."""
    env = gymnasium.make(task)
    env.action_space.seed(0)
    total = 0.0
    for episode in range(RANDOM_EPISODES):
        env.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            ended = terminated or truncated
    env.close()
    return total / RANDOM_EPISODES


# --- the table -------------------------------------------------------------------------------------------------------


def report(
    scores: Mapping[str, Mapping[str, Mapping[int, float]]], floors: Mapping[str, float], lengths: Mapping[int, int]
) -> str:
    """Markdown: averages over the complete tasks next to the paper's, then every task's scores.

    Args:
        lengths: how many runs there are of so many environment steps.
    """
    complete = [task for task in sorted(scores) if scores[task].keys() == PAPER.keys()]
    whole = [task for task in complete if best_mean(scores[task]) > floors[task]]
    lines = ["# Table 1 of the PPO paper", "", "Made by `python benchmarks/paper_table1.py`.", ""]
    lines += [told_lengths(lengths), ""]
    lines += [f"On {task} no setting is better than random actions: it does not count.\n"
              for task in complete if task not in whole]  # fmt: skip
    if whole:
        counted = f"{len(whole)} of the paper's 7 tasks ({', '.join(whole)})"
        lines += [f"Averages over {counted}, {told_seeds(scores, whole)}.", ""]
        rows = [
            (
                place.setting,
                f"{place.average:.2f}",
                f"{place.low:.2f} to {place.high:.2f}",
                f"{PAPER[place.setting]:.2f}",
            )
            for place in averages(scores, floors, whole)
        ]
        lines += markdown(("setting", "average", "95 % interval", "the paper, 7 tasks"), rows)
    lines += ["", "Mean return ± sd over seeds (in brackets: how many seeds) of the last 100 training episodes.", ""]
    tasks = sorted(scores)
    cells = [(name, *(cell(scores[task].get(name, {})) for task in tasks)) for name in PAPER]
    random = ("random actions", *(f"{floors[task]:,.1f}" for task in tasks))
    lines += markdown(("setting", *tasks), [*cells, random])
    return "\n".join(lines) + "\n"


def averages(
    scores: Mapping[str, Mapping[str, Mapping[int, float]]], floors: Mapping[str, float], tasks: Sequence[str]
) -> list[Rank]:
    """Every setting's average of scaled scores over `tasks`, with its interval."""
    best = {task: best_mean(scores[task]) for task in tasks}
    places = []
    for name in PAPER:
        scaled = [
            (np.array(list(scores[task][name].values())) - floors[task]) / (best[task] - floors[task]) for task in tasks
        ]
        low, high = Bootstrap().interval(mean, scaled)
        places.append(Rank(name, float(mean(scaled)), float(low), float(high)))
    return places


def best_mean(scores: Mapping[str, Mapping[int, float]]) -> float:
    """Of the settings on a task."""
    return max(fmean(seeds.values()) for seeds in scores.values())


def told_lengths(lengths: Mapping[int, int]) -> str:
    """How long the runs are, and that they cannot be compared if some are longer."""
    if len(lengths) == 1:
        return f"Every run has {min(lengths):,} environment steps."
    told = ", ".join(f"{number} of {steps:,}" for steps, number in sorted(lengths.items()))
    return f"**Runs of different lengths are compared here**: {told} environment steps."


def told_seeds(scores: Mapping[str, Mapping[str, Mapping[int, float]]], tasks: Sequence[str]) -> str:
    """How many seeds each setting has."""
    numbers = sorted({len(seeds) for task in tasks for seeds in scores[task].values()})
    return f"{numbers[0]} seeds of each" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds of each"


def cell(seeds: Mapping[int, float]) -> str:
    """Mean, spread and number of a task's scores under one setting."""
    values = list(seeds.values())
    if not values:
        return ""
    spread = f" ± {stdev(values):,.1f}" if len(values) > 1 else ""
    return f"{fmean(values):,.1f}{spread} ({len(values)})"


if __name__ == "__main__":
    main()
