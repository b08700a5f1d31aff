"""Write a report as Markdown, and its numbers as CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppolab.reports.results import OVER_TASKS, Aggregates, Curve, Estimate, Results
from ppolab.reports.scores import Collection
from ppolab.reports.settings import ReportConfig

MARKDOWN = "report.md"
NAMES = {"iqm": "IQM", "median": "median", "mean": "mean", "gap": "optimality gap", "worst": "worst run"}
OVER_TASKS_COLUMNS = ("iqm", "median", "mean", "gap")
PER_TASK_COLUMNS = ("mean", "median", "iqm", "worst", "gap")
MOST_LISTED = 30
"""The text lists so many pairs of methods at most; the CSV file has all."""


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(settings: ReportConfig, found: Collection, results: Results, pictures: Sequence[str]) -> str:
    """Return the whole report; `pictures`: the names of those that were drawn."""
    sections = [
        f"# {settings.name}",
        _introduction(settings, found),
        "\n".join(f"- {remark}" for remark in [*found.remarks, *_remarks(settings, found, results)]),
        *_over_tasks(settings, found, results),
        _picture("aggregates over tasks", "aggregates.png", pictures),
        *_improvement(results),
        _picture("probability of improvement", "improvement.png", pictures),
        "## Per task",
        "Scores as they are, except that the optimality gap is that of the scaled ones."
        if settings.normalize == "range" else "",
        _aggregate_table(results.per_task, PER_TASK_COLUMNS, with_task=True),
    ]  # fmt: skip
    if "profiles.png" in pictures:
        sections += ["## Performance profiles", "The fraction of runs that score above a threshold, mean over tasks."]
        sections += [_picture("performance profiles", "profiles.png", pictures)]
    if "curves.png" in pictures:
        sections += ["## Learning curves", f"`{settings.curve}`: mean over runs, and the interval of that mean."]
        sections += [_picture("learning curves", "curves.png", pictures)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(settings: ReportConfig, found: Collection) -> str:
    counts = sorted({len(found.of(task, method)) for task in found.tasks for method in found.methods} - {0})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    selected = f" with `{settings.selection}`" if settings.selection else ""
    level = f"{100 * settings.confidence:g} %"
    return (
        f"{_count(len(found.runs), 'finished run')}{selected}: {_count(len(found.tasks), 'task')}, "
        f"{_count(len(found.methods), 'method')}, {each} seed{'' if each == '1' else 's'} of each. A run's score is "
        f"its last `{settings.metric}`. In brackets: {level} intervals by stratified bootstrap: "
        f"percentiles of {settings.bootstrap:,} resamples of runs within tasks (Agarwal et al. 2021, arXiv:2108.13264)."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _remarks(settings: ReportConfig, found: Collection, results: Results) -> list[str]:
    """Return notes on how the choice of runs affects the numbers."""
    sizes = {(task, method): len(found.of(task, method)) for task in found.tasks for method in found.methods}
    remarks = []
    missing = [task for task in found.tasks if task not in found.common_tasks]
    if not found.common_tasks:
        remarks.append("No task has runs of every method: nothing is said over tasks.")
    elif missing:
        remarks.append(f"Over tasks without {', '.join(missing)}, where some method has no run.")
    if any(len({sizes[task, method] for task in found.common_tasks}) > 1 for method in found.methods):
        remarks.append("Tasks differ in their number of runs, and weigh in the IQM as much as they have runs.")
    if 1 in sizes.values():
        remarks.append("A single run of a method on a task says nothing about the next one: no interval is given.")
    if len(results.shown) < len(found.methods):
        baseline = ", the baseline among them" if settings.baseline else ""
        remarks.append(
            f"Only {len(results.shown)} methods are drawn and compared: those of the highest mean{baseline}."
        )
    return remarks


def _over_tasks(settings: ReportConfig, found: Collection, results: Results) -> list[str]:
    if not results.over_tasks:
        return []
    tasks = ", ".join(found.common_tasks)
    scale = (
        f"Over {tasks}, scores scaled so that on each 0 is the lowest of any run and 1 the highest mean of a method."
    )
    if settings.normalize == "none":
        scale = f"Over {tasks}, scores as they are; the optimality gap is to a score of 1."
    return ["## Over tasks", scale, _aggregate_table(results.over_tasks, OVER_TASKS_COLUMNS, with_task=False)]


def _aggregate_table(rows: Sequence[Aggregates], names: Sequence[str], *, with_task: bool) -> str:
    header = [*(["task"] if with_task else []), "method", "runs", *(NAMES[name] for name in names)]
    body = [
        [*([row.task] if with_task else []), row.method, str(row.runs), *(told(row.estimates[name]) for name in names)]
        for row in rows
    ]
    return _table(header, body, left=2 if with_task else 1)


def _improvement(results: Results) -> list[str]:
    over_tasks = [row for row in results.improvements if row.task == OVER_TASKS]
    rows = over_tasks or list(results.improvements)
    if not rows:
        return []
    where = "on a task drawn at random" if over_tasks else "on one task"
    header = ["task", "method", "against", "probability"]
    body = [[row.task, row.method, row.other, told(row.chance)] for row in rows[:MOST_LISTED]]
    return [
        "## Probability of improvement",
        f"How likely a run of one method beats a run of another, {where}; a tie counts half.",
        _table(header, body, left=3),
        f"The {len(rows) - MOST_LISTED} further pairs are in improvement.csv." if rows[MOST_LISTED:] else "",
    ]


def _table(header: Sequence[str], body: Iterable[Sequence[str]], left: int) -> str:
    rules = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (header, rules, *body))


def _picture(title: str, name: str, pictures: Sequence[str]) -> str:
    return f"![{title}]({name})" if name in pictures else ""


def told(estimate: Estimate) -> str:
    """Return `1,234 [1,100, 1,300]`, with digits that suit the size."""
    known = [abs(end) for end in (estimate.value, estimate.low, estimate.high) if math.isfinite(end)]
    largest = max(known)
    digits = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3
    value, low, high = (f"{end:,.{digits}f}" for end in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


# --- CSV -------------------------------------------------------------------------------------------------------------


def write_csv(folder: Path, found: Collection, results: Results) -> list[Path]:
    """Write every number of the report; return the files."""
    runs = [{"task": run.task, "method": run.method, "seed": run.seed, "score": run.score,
             "scaled": results.scaled[run.run.run_id], "run_id": run.run.run_id, "name": run.run.name}
            for run in found.runs]  # fmt: skip
    aggregates = [{"task": row.task, "method": row.method, "runs": row.runs}
                  | {column: value for name in OVER_TASKS_COLUMNS
                     for column, value in _columns(name, row.estimates[name]).items()}
                  | ({"worst": row.estimates["worst"].value} if "worst" in row.estimates else {})
                  for row in [*results.over_tasks, *results.per_task]]  # fmt: skip
    improvements = [{"task": row.task, "method": row.method, "against": row.other}
                    | _columns("probability", row.chance) for row in results.improvements]  # fmt: skip
    numbers = [f"{name}{end}" for name in OVER_TASKS_COLUMNS for end in ("", "_low", "_high")] + ["worst"]
    return [
        _write(folder / "runs.csv", ["task", "method", "seed", "score", "scaled", "run_id", "name"], runs),
        _write(folder / "aggregates.csv", ["task", "method", "runs", *numbers], aggregates),
        _write(folder / "improvement.csv", ["task", "method", "against", *_columns("probability")], improvements),
        _write_curves(folder / "profiles.csv", results.profiles, "threshold", "fraction"),
        _write_curves(folder / "curves.csv", results.curves, "step", "mean"),
    ]


def _columns(name: str, estimate: Estimate | None = None) -> dict[str, float]:
    ends = estimate or Estimate(math.nan, math.nan, math.nan)
    return {name: ends.value, f"{name}_low": ends.low, f"{name}_high": ends.high}


def _write_curves(path: Path, curves: Sequence[Curve], x: str, y: str) -> Path:
    rows = (
        {"task": curve.task, "method": curve.method, x: point[0], y: point[1], "low": point[2], "high": point[3]}
        for curve in curves
        for point in zip(*(part.tolist() for part in (curve.x, curve.y, curve.low, curve.high)), strict=True)
    )
    return _write(path, ["task", "method", x, y, "low", "high"], rows)


def _write(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """Write numbers in full, since others may calculate with them; a number that does not exist stays empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()})
    return path
