"""Draw the pictures of a report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppolab.reports.results import OVER_TASKS, Curve, Estimate, Results
from ppolab.reports.scores import Collection
from ppolab.reports.settings import ReportConfig
from ppolab.reports.tables import NAMES, OVER_TASKS_COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
PICTURES = ("aggregates.png", "improvement.png", "profiles.png", "curves.png")
MOST_PAIRS = 15
LONGEST_LABEL = 60
INCHES_PER_LETTER = 0.075
"""About so much in labels."""
FIRST_COLOURS, MORE_COLOURS = range(0, 20, 2), range(1, 20, 2)
"""Indices in tab20: ten strong colours, and the same ten pale."""


@dataclass(frozen=True)
class Look:
    """Hold the label and the colour of a method, the same in every picture."""

    label: str
    colour: Any


Looks = Mapping[str, Look]


def draw(settings: ReportConfig, found: Collection, results: Results, folder: Path) -> list[Path]:
    """Write the pictures that have something to show; return the files."""
    from matplotlib import colormaps

    palette = [colormaps["tab20"](index) for index in (*FIRST_COLOURS, *MORE_COLOURS)]
    looks = {
        method: Look(label, colour)
        for method, label, colour in zip(results.shown, labels(results.shown), palette, strict=False)
    }
    drawings: dict[str, Callable[[], Figure | None]] = {
        "aggregates.png": lambda: _aggregates(results, looks),
        "improvement.png": lambda: _improvement(results, looks),
        "profiles.png": lambda: _profiles(settings, results, looks),
        "curves.png": lambda: _curves(settings, found, results, looks),
    }
    files = []
    for name, drawing in drawings.items():
        figure = drawing()
        if figure is not None:
            figure.savefig(folder / name)
            files.append(folder / name)
    return files


def _aggregates(results: Results, looks: Looks) -> Figure | None:
    """Draw a panel per aggregate, with a row per method."""
    rows = [row for row in results.over_tasks if row.method in looks]
    if not rows:
        return None
    names = [looks[row.method].label for row in rows]
    columns = OVER_TASKS_COLUMNS
    figure = _figure(2.6 * len(columns) + _width(names), 1.0 + 0.35 * len(rows))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, columns, strict=True):
        for place, row in enumerate(rows):
            _whisker(panel, place, row.estimates[name], looks[row.method].colour)
        panel.set_title(f"{NAMES[name]} (lower is better)" if name == "gap" else NAMES[name], fontsize=9)
        panel.set_yticks(range(len(rows)), names)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.use_sticky_edges = False  # bars would end at the frame
        panel.margins(x=0.06)
        _plain(panel)
    return figure


def _improvement(results: Results, looks: Looks) -> Figure | None:
    rows = [row for row in results.improvements if row.task == OVER_TASKS][:MOST_PAIRS]
    if not rows:
        return None
    names = [f"{looks[row.method].label}\nover {looks[row.other].label}" for row in rows]
    figure = _figure(5.5 + _width([look.label for look in looks.values()]), 1.0 + 0.45 * len(rows))
    panel = figure.subplots()
    for place, row in enumerate(rows):
        _whisker(panel, place, row.chance, "tab:blue")
    panel.axvline(0.5, color="0.4", linestyle="--", linewidth=1)
    panel.set_yticks(range(len(rows)), names)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel("probability of improvement", fontsize=9)
    _plain(panel)
    return figure


def _profiles(settings: ReportConfig, results: Results, looks: Looks) -> Figure | None:
    curves = [curve for curve in results.profiles if curve.task == OVER_TASKS]
    if not curves:
        return None
    figure = _figure(6.5, 4.0 + 0.2 * _legend_rows(looks))
    panel = figure.subplots()
    for curve in curves:
        _line(panel, curve, looks[curve.method])
    scale = "" if settings.normalize == "none" else ", scaled"
    panel.set_xlabel(f"threshold of {settings.metric}{scale}", fontsize=9)
    panel.set_ylabel("fraction of runs above it", fontsize=9)
    panel.set_ylim(-0.02, 1.02)
    _plain(panel)
    _legend(figure, panel)
    return figure


def _curves(settings: ReportConfig, found: Collection, results: Results, looks: Looks) -> Figure | None:
    """Draw a panel per task."""
    tasks = [task for task in found.tasks if any(curve.task == task for curve in results.curves)]
    if not tasks:
        return None
    columns = min(COLUMNS, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = _figure(max(5.0, 0.4 + 3.8 * columns), 0.4 + 2.9 * rows + 0.2 * _legend_rows(looks))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, task in zip(panels, tasks, strict=False):
        for curve in results.curves:
            if curve.task == task:
                _line(panel, curve, looks[curve.method])
        panel.set_title(task, fontsize=10)
        panel.set_xlabel("environment steps", fontsize=8)
        panel.set_ylabel(settings.curve, fontsize=8)
        panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
        _plain(panel)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    _legend(figure, *panels[: len(tasks)])
    return figure


# --- parts -----------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # not pyplot: no global state, no window system

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _line(panel: Axes, curve: Curve, look: Look) -> None:
    colour = look.colour
    marker = "o" if len(curve.x) == 1 else ""  # a single point makes no line
    panel.plot(curve.x, curve.y, color=colour, linewidth=1.5, marker=marker, label=look.label)
    if len(curve.x) == 1:
        panel.vlines(curve.x, curve.low, curve.high, color=colour, alpha=0.5)
    panel.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)


def _whisker(panel: Axes, place: int, estimate: Estimate, colour: Any) -> None:
    if not math.isnan(estimate.low):
        panel.barh(place, estimate.high - estimate.low, left=estimate.low, height=0.5, color=colour, alpha=0.5)
    panel.plot([estimate.value] * 2, [place - 0.32, place + 0.32], color="black", linewidth=1.5)


def _plain(panel: Axes) -> None:
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)


def _legend(figure: Figure, *panels: Axes) -> None:
    """Draw one legend for all panels, below them."""
    entries = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    columns = _legend_columns(list(entries))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize=8)


def _legend_rows(looks: Looks) -> int:
    return math.ceil(len(looks) / _legend_columns([look.label for look in looks.values()]))


def _legend_columns(names: Sequence[str]) -> int:
    longest = max(map(len, names), default=1)
    return max(1, min(len(names), 70 // (longest + 6)))


def _width(names: Sequence[str]) -> float:
    """Return the inches that the longest of these labels takes."""
    return 0.5 + INCHES_PER_LETTER * max(map(len, names))


def labels(methods: Sequence[str]) -> list[str]:
    """Return the names of methods without the groups of settings, the long ones cut; no two are the same."""
    plain = [re.sub(r"(?:\w+\.)+(\w+=)", r"\1", name) for name in methods]
    short: list[str] = []
    for name in plain if len(set(plain)) == len(methods) else methods:
        label = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        again = sum(other.startswith(label) for other in short)
        short.append(f"{label} ({again + 1})" if again and label != name else label)
    return short
