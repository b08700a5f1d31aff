"""Rows, table and picture of time_to_return.py."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from result_tables import markdown as table

WINDOW = 100
SIDES = ("ppolab", "sb3-default", "sb3-zoo")
NAMES = {
    "ppolab": "ppolab, shipped settings",
    "sb3-default": "stable-baselines3, defaults",
    "sb3-zoo": "stable-baselines3, tuned settings of its zoo",
}
COLORS = {"ppolab": "tab:blue", "sb3-default": "tab:orange", "sb3-zoo": "tab:green"}


@dataclass(frozen=True)
class Row:
    """One run. `seconds` from the launch of its process until `threshold`; None: not reached within `cap` steps, or in
    the seconds that `command` gives it."""

    env: str
    side: str
    seed: int
    threshold: float
    cap: int
    reached: bool
    seconds: float | None
    seconds_from_first_step: float | None
    steps: int | None
    best_return: float
    last_return: float
    ran_steps: int
    ran_seconds: float
    launch_seconds: float
    jobs: int
    load_before: float
    command: str
    versions: str


def told(row: Row) -> str:
    """One line on a run, while the others are under way."""
    if row.seconds is None:
        return f"not reached in {row.ran_steps:,} steps, {row.ran_seconds:,.0f} s; best {row.best_return:,.0f}"
    return f"{row.threshold:,.0f} after {row.seconds:,.1f} s, {row.steps:,} steps"


def markdown(rows: Sequence[Row]) -> str:
    """The report: a summary, a table per environment, and what they were made with."""
    lines = ["# Wall-clock time to a return", "", "![return against wall clock](curves.png)", ""]
    lines += ["Seconds from the launch of the process until the mean of the last 100 training episodes (sampled "
              "actions) passes the threshold; one thread per process. A run that did not get there within its steps "
              "(or, with `--stop-after` in its command, its seconds) is counted as infinitely slow in medians, and "
              "shown with the best mean that it saw. Expected: the seconds of all runs, over how many of them got "
              "there; what one success costs if failures are started again.", ""]  # fmt: skip
    lines += [*summary(rows), ""]
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        lines += [f"## {env}: {mine[0].threshold:,.0f}", "", *side_table(mine), ""]
    jobs = ", ".join(str(count) for count in sorted({row.jobs for row in rows}))
    lines += [f"Processes side by side: {jobs}  "]
    for side in SIDES:
        mine = [row for row in rows if row.side == side]
        commands = {(row.env, "--stop-after" in row.command): row.command for row in reversed(mine)}
        lines += [f"Command, {side}: `{command}`  " for command in sorted(commands.values())]
        lines += [f"Versions, {side}: {text.replace('=', ' ')}  " for text in sorted({row.versions for row in mine})]
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row]) -> list[str]:
    """Per environment: ppolab, SB3's better setting, and how much longer that took."""
    lines = []
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        sides = {side: [row for row in mine if row.side == side] for side in SIDES}
        ours = median_time(sides["ppolab"])
        others = {side: runs for side, runs in sides.items() if side != "ppolab" and runs}
        better = min(others, key=lambda side: (median_time(others[side]), least_time(others[side])), default="")
        theirs = median_time(others[better]) if better else math.inf
        least = least_time(others[better]) if better else math.nan
        lines.append([
            env, f"{mine[0].threshold:,.0f}", shown(ours), NAMES.get(better, "-"), shown(theirs),
            ratio(ours, theirs, least),
        ])  # fmt: skip
    head = ["environment", "return", "ppolab, median s", "stable-baselines3's better setting", "median s", "ratio"]
    return table(head, lines)


def ratio(ours: float, theirs: float, theirs_at_least: float) -> str:
    """How many times longer the other side took; a bound where it never got there."""
    if math.isinf(ours):
        return "-"
    if math.isinf(theirs):
        return f"> {theirs_at_least / ours:.1f}" if math.isfinite(theirs_at_least) else "-"
    return f"{theirs / ours:.1f}"


def side_table(rows: Sequence[Row]) -> list[str]:
    """A line per side: medians over seeds, and every seed."""
    head = [
        "", "reached", "median s from launch", "expected s", "from the first step, median", "median steps", "at most",
        "every seed, s",
    ]  # fmt: skip
    lines = []
    for side in SIDES:
        mine = sorted((row for row in rows if row.side == side), key=lambda row: row.seed)
        if mine:
            lines.append([
                NAMES[side], f"{sum(row.reached for row in mine)} of {len(mine)}", shown(median_time(mine)),
                shown(expected_time(mine)), shown(median_of([row.seconds_from_first_step for row in mine])),
                shown(median_of([row.steps for row in mine])), f"{max(row.cap for row in mine):,}",
                "; ".join(seed_text(row) for row in mine),
            ])  # fmt: skip
    return table(head, lines)


def seed_text(row: Row) -> str:
    """`0: 61`, or what happened instead."""
    if row.seconds is not None:
        return f"{row.seed}: {row.seconds:,.0f}"
    return f"{row.seed}: not in {row.ran_seconds:,.0f} (best {row.best_return:,.0f})"


def median_time(rows: Sequence[Row]) -> float:
    """Seconds from launch; infinite where the middle run did not get there, or there is none."""
    return median_of([row.seconds for row in rows])


def expected_time(rows: Sequence[Row]) -> float:
    """Seconds that one success costs, failures included; infinite where there is none."""
    reached = sum(row.reached for row in rows)
    spent = sum(row.ran_seconds if row.seconds is None else row.seconds for row in rows)
    return spent / reached if reached else math.inf


def median_of(values: Sequence[float | None]) -> float:
    """With None as infinitely large."""
    return statistics.median([math.inf if value is None else value for value in values] or [math.inf])


def least_time(rows: Sequence[Row]) -> float:
    """What the median time is at least, as runs that did not get there would have taken longer than they did."""
    return statistics.median([row.ran_seconds if row.seconds is None else row.seconds for row in rows])


def shown(value: float) -> str:
    """A number of a table."""
    return "not reached" if math.isinf(value) else f"{value:,.0f}"


def draw(rows: Sequence[Row], curves: Path, target: Path) -> None:
    """One panel per environment, one line per run."""
    with curves.open(newline="") as file:
        points = list(csv.DictReader(file))
    environments = list(dict.fromkeys(row.env for row in rows))
    figure = Figure(figsize=(0.4 + 4.2 * len(environments), 3.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(environments), squeeze=False)[0]
    for panel, env in zip(panels, environments, strict=True):
        draw_panel(panel, [row for row in rows if row.env == env], [point for point in points if point["env"] == env])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), len(environments)),
        fontsize=8,
        frameon=False,
    )
    figure.savefig(target)


def draw_panel(panel: Any, rows: Sequence[Row], points: Sequence[dict[str, str]]) -> None:
    """Return against seconds since launch."""
    named: set[str] = set()
    for row in rows:
        mine = [point for point in points if point["side"] == row.side and int(point["seed"]) == row.seed]
        label = None if row.side in named else NAMES[row.side]
        named.add(row.side)
        seconds = [float(point["seconds"]) for point in mine]
        returns = [float(point["train_return"]) for point in mine]
        panel.plot(seconds, returns, color=COLORS[row.side], linewidth=1.1, alpha=0.85, label=label)
    panel.axhline(rows[0].threshold, color="black", linewidth=0.8, linestyle="--")
    panel.set_title(rows[0].env, fontsize=10)
    panel.set_xlabel("seconds since launch", fontsize=8)
    panel.set_ylabel("mean return of the last 100 episodes", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
