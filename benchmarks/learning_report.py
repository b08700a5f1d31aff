"""Tables and pictures of learning.py."""

from __future__ import annotations

import io
import math
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ppolab.core.statistics import Bootstrap, interquartile_mean

COLUMNS = 3
INTERVAL_SEEDS = 5


def markdown(labels: dict[str, list[dict[str, Any]]]) -> str:
    """The report: per label, the returns over seeds, the cross-check, and what they were made with."""
    lines = ["# Returns over seeds", "", "Made by `python benchmarks/learning.py report`. sd: over seeds, sample.", ""]
    for label, rows in labels.items():
        rows = sorted(rows, key=lambda row: (row["env_id"], row["seed"]))
        steps = sorted({row["steps"] for row in rows})
        span = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        lines += [f"## {label}", "", f"![learning curves]({label}.png)", "", f"After {span} environment steps.", ""]
        lines += ["Training: mean of the last 100 episodes, actions sampled.", "", *table(rows, "train_return"), ""]
        played = [row for row in rows if row["gymnasium_return"] is not None]
        if played:
            episodes = "/".join(sorted({str(row["gymnasium_episodes"]) for row in played}))
            lines += [
                "The final policy in Gymnasium's own environment, or EnvPool's where only it has the id: "
                f"{episodes} deterministic episodes per seed; ± is over episodes.", "",
                *table(played, "gymnasium_return", "gymnasium_return_std"), "",
            ]  # fmt: skip
        lines += [*provenance(rows), ""]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], column: str, deviation: str | None = None) -> list[str]:
    """One line per environment: statistics over seeds, and every seed.

    The interquartile mean and its 95 percent interval, as in src/report.py, stand there from five seeds on.
    """
    lines = [
        "| environment | seeds | mean | sd | IQM | min | max | each seed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for env in dict.fromkeys(row["env_id"] for row in rows):
        mine = [row for row in rows if row["env_id"] == env]
        values = [row[column] for row in mine]
        form = ",.0f" if max(map(abs, values)) >= 1000 else ",.1f"
        sd = f"{statistics.stdev(values):{form}}" if len(values) > 1 else "-"
        numbers = [f"{statistics.fmean(values):{form}}", sd, middle(values, form)]
        numbers += [f"{min(values):{form}}", f"{max(values):{form}}"]
        spread = [f" ± {row[deviation]:{form}}" if deviation else "" for row in mine]
        each = [f"{row['seed']}: {row[column]:{form}}{more}" for row, more in zip(mine, spread, strict=True)]
        lines.append(f"| {env} | {len(values)} | {' | '.join(numbers)} | {'; '.join(each)} |")
    return lines


def middle(values: list[float], form: str) -> str:
    """The interquartile mean with its interval; a dash for few seeds, which tell little about their spread."""
    if len(values) < INTERVAL_SEEDS:
        return "-"
    scores = [np.array(values)]
    low, high = Bootstrap().interval(interquartile_mean, scores)
    return f"{float(interquartile_mean(scores)):{form}} [{float(low):{form}}, {float(high):{form}}]"


def provenance(rows: list[dict[str, Any]]) -> list[str]:
    """Commands, processes side by side, speed and versions."""
    commands = dict.fromkeys(re.sub(r"\b(env|env\.id|seed)=\S+", r"\1=...", row["command"], count=2) for row in rows)
    jobs = ", ".join(str(count) for count in sorted({row["jobs"] for row in rows}))
    speed = statistics.median(row["steps_per_second"] for row in rows)
    return [
        *(f"Command: `{command}`  " for command in commands),
        f"Processes side by side: {jobs}; median steps/s of one process, start to end: {speed:,.0f}  ",
        *(f"Versions: {versions}  " for versions in dict.fromkeys(row["versions"] for row in rows)),
    ]


def draw(label: str, rows: list[dict[str, Any]], points: list[dict[str, str]], target: Path) -> None:
    """One panel per environment: every seed thin, their mean thick."""
    environments = sorted({row["env_id"] for row in rows})
    columns = min(COLUMNS, len(environments))
    height = math.ceil(len(environments) / columns)
    figure = Figure(figsize=(0.4 + 3.8 * columns, 0.5 + 2.9 * height), dpi=100, layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flat
    for panel in panels:
        panel.set_visible(False)
    for panel, env in zip(figure.axes, environments, strict=False):
        panel.set_visible(True)
        draw_panel(panel, env, points)
    figure.suptitle(f"{label}: mean of the last 100 training episodes", fontsize=10)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(48).save(target, optimize=True)  # a third of the size


def draw_panel(panel: Any, env: str, points: list[dict[str, str]]) -> None:
    """The curves of one environment."""
    curves = []
    for seed in sorted({int(point["seed"]) for point in points if point["env_id"] == env}):
        mine = [point for point in points if point["env_id"] == env and int(point["seed"]) == seed]
        curve = sorted({float(point["step"]): float(point["train_return"]) for point in mine}.items())
        steps, returns = np.array(curve).T
        panel.plot(steps, returns, linewidth=0.8, alpha=0.8, label=f"seed {seed}")
        curves.append((steps, returns))
    if len(curves) > 1:
        grid = np.linspace(max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves), 200)
        mean = np.mean([np.interp(grid, steps, returns) for steps, returns in curves], axis=0)
        panel.plot(grid, mean, color="black", linewidth=2.2, label="mean")
    panel.set_title(env, fontsize=10)
    panel.set_xlabel("environment steps", fontsize=8)
    panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    if curves:
        panel.legend(fontsize=7)
