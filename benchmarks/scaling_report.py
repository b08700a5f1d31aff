"""Rows and tables of scaling.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from result_tables import markdown as table

TITLES = {
    "path": ("Paths of an update", "update", "The shipped network and batch, one thread; without the time to compile."),
    "envs": ("Environments", "environments", "The batch stays 2048 steps: `rollout_steps` is 2048 / `num_envs`."),
    "width": ("Width of the network", "hidden units, twice", "Actor and critic apart, minibatches of 64."),
    "minibatch": ("Minibatch", "minibatch", "Of a batch of 16,384 steps, 10 epochs."),
    "pair": ("Two runs side by side", "", "Steps per second of both together, and of each."),
    "device": ("Processor and GPU", "hidden units, twice", "Actor and critic apart."),
    "memory": ("Memory", "batch, steps", "32 environments, two epochs; peak of the process (`ru_maxrss`)."),
}


@dataclass(frozen=True)
class Row:
    """One process. `copies` of them ran at the same time; `value` is what the table varies."""

    name: str
    env: str
    value: str
    repeat: int
    copy: int
    copies: int
    measured_steps: int
    measured_seconds: float
    steps_per_second: float
    measured_gradient_steps: int
    cpu_seconds_per_million: float
    peak_mb: float
    load_before: float
    cores: int
    settings: str
    command: str
    versions: str


def told(row: Row) -> str:
    """One line, while the others are measured."""
    return (
        f"{row.name} {row.value:<12} round {row.repeat}: {row.steps_per_second:>9,.0f} steps/s, {row.peak_mb:,.0f} MB"
    )


def markdown(tables: Mapping[str, Sequence[Row]]) -> str:
    """The tables of whatever has been measured."""
    lines: list[str] = []
    for name, rows in tables.items():
        if rows:
            title, column, note = TITLES[name]
            lines += [f"## {title}", "", f"{rows[0].env}, {rows[0].cores} cores. {note}", ""]
            lines += [*TABLES.get(name, value_table)(rows, column), ""]
            lines += [f"Command: `{rows[0].command}`; medians of {rounds(rows)}, rows in "
                      f"[{name}.csv](results/performance/{name}.csv)  "]  # fmt: skip
            lines += [f"Versions: {text.replace('=', ' ')}  " for text in sorted({row.versions for row in rows})]
            lines += [""]
    if not lines:
        return "Nothing has been measured yet.\n"
    return "\n".join(lines)


def rounds(rows: Sequence[Row]) -> str:
    """`3 rounds`, or `2 to 3 rounds` where some are missing."""
    counts = sorted({len({row.repeat for row in group}) for group in by_value(rows).values()})
    return f"{counts[0]} rounds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} rounds"


def by_value(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """In the order in which the first round had them."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.value, []).append(row)
    return found


def value_table(rows: Sequence[Row], column: str) -> list[str]:
    """A line per value."""
    head = [column, "steps/s: median", "min", "max", "gradient steps/s", "CPU s per million steps", "peak memory, MB"]
    lines = []
    for value, group in by_value(rows).items():
        speeds = [row.steps_per_second for row in group]
        updates = [row.measured_gradient_steps / row.measured_seconds for row in group]
        lines.append([
            f"{int(value):,}", number(statistics.median(speeds)), number(min(speeds)), number(max(speeds)),
            number(statistics.median(updates)), number(statistics.median(row.cpu_seconds_per_million for row in group)),
            number(statistics.median(row.peak_mb for row in group)),
        ])  # fmt: skip
    return table(head, lines)


def device_table(rows: Sequence[Row], column: str) -> list[str]:
    """A line per network and minibatch, whose `value` is `WIDTH MINIBATCH DEVICE`."""
    speeds: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        width, size, device = row.value.split()
        speeds.setdefault((width, size), {}).setdefault(device, []).append(row.steps_per_second)
    lines = []
    for (width, size), found in speeds.items():
        cpu, gpu = (statistics.median(found[device]) for device in ("cpu", "gpu"))
        lines.append([f"{int(width):,}", size, number(cpu), number(gpu), f"{gpu / cpu:.2f}"])
    return table([column, "minibatch", "steps/s: processor", "GPU", "GPU / processor"], lines, texts=0)


def pair_table(rows: Sequence[Row], _column: str) -> list[str]:
    """A line per way to run; speeds of runs side by side are added within a round."""
    head = [
        "",
        "steps/s together: median",
        "min",
        "max",
        "of one run, all cores",
        "steps/s of each",
        "memory of each, MB",
    ]
    totals = {value: round_totals(group) for value, group in by_value(rows).items()}
    base = statistics.median(next(iter(totals.values())))
    lines = []
    for value, group in by_value(rows).items():
        together = totals[value]
        each = statistics.median(row.steps_per_second for row in group)
        lines.append([
            value, number(statistics.median(together)), number(min(together)), number(max(together)),
            f"{statistics.median(together) / base:.2f}", number(each),
            number(statistics.median(row.peak_mb for row in group)),
        ])  # fmt: skip
    return table(head, lines)


def path_table(rows: Sequence[Row], column: str) -> list[str]:
    """A line per path; the factor is the median over rounds of its processor time, divided by the first path's."""
    groups = by_value(rows)
    first = {row.repeat: row.cpu_seconds_per_million for row in next(iter(groups.values()))}
    lines = []
    for value, group in groups.items():
        factors = [row.cpu_seconds_per_million / first[row.repeat] for row in group if row.repeat in first]
        lines.append([
            value, number(statistics.median(row.steps_per_second for row in group)),
            number(statistics.median(row.cpu_seconds_per_million for row in group)),
            f"{statistics.median(factors):.1f} ({min(factors):.1f} to {max(factors):.1f})",
        ])  # fmt: skip
    return table([column, "steps/s", "CPU s per million steps", "factor of the CPU time"], lines)


TABLES = {"path": path_table, "pair": pair_table, "device": device_table}
"""Those that are not a line per value."""


def round_totals(rows: Sequence[Row]) -> list[float]:
    """Steps per second of all processes of a round together."""
    repeats = sorted({row.repeat for row in rows})
    return [sum(row.steps_per_second for row in rows if row.repeat == repeat) for repeat in repeats]


def number(value: float) -> str:
    """With thousands separated."""
    return f"{value:,.0f}"
