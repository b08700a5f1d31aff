"""Rows and tables of throughput.py. To print the tables of rows that were stored:

python benchmarks/throughput_report.py docs/results/throughput.csv
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from result_tables import markdown, read_rows

FRAMEWORKS = {"sb3": "stable-baselines3", "sheeprl": "sheeprl"}
SIDES = ("ppolab", *FRAMEWORKS, "simulator")
SAME_WORK = 0.03
"""Gradient steps per environment step may differ by this share before the report says so."""

METHOD = """\
Same environment, batch 2048, minibatches of 64, 10 epochs, 64-64 tanh separate networks, no KL early stopping;
gradient steps are counted, not assumed. Every measurement is a fresh process; a peer's stands next to one of ppolab,
order alternating, and ratios are taken pair by pair. Speed: from the end of the first iteration after the warm-up to
the end of the last one. Gradient steps, all: of the whole process, in which ppolab's first rollout fills its scales
and is not learned from; per 1,000 steps: of the measured span. ppolab runs through its own command line with 32
environments, its C++ update in two threads where there are two cores, and its shipped settings otherwise, except for
the peers' learning rate, 3e-4, and that there is no tracking and no evaluation: it also scales observations and
rewards, recomputes advantages before every epoch, normalizes them, and writes metrics.csv. stable-baselines3 scales
observations and rewards (VecNormalize); sheeprl has no such scaling and its logging and checkpoints are off, so it
does less. dummy, subproc: stable-baselines3's vector environments; sheeprl, sheeprlasync: sheeprl's, in its own
process or in others; the number is how many environments; the fastest is that of those measured. ppolab's medians are
over all of its runs, next to whichever peer; ratios are medians over pairs. Ceiling: EnvPool stepping 64 environments
with random actions and nothing else, as one pool or as two that take turns, whichever is faster, measured between the
others."""


@dataclass(frozen=True)
class Row:
    """One measurement, one line of the CSV.

    `kind` is pair, calibration or ceiling; `peer` the other side of a pair; `problem` why there are no numbers.
    """

    env: str
    kind: str
    repeat: int
    side: str
    peer: str
    num_envs: int = 0
    torch_threads: int = 0
    simulator_threads: int = 0
    steps: int = 0
    gradient_steps: int = 0
    measured_steps: int = 0
    measured_gradient_steps: int = 0
    measured_seconds: float = 0.0
    steps_per_second: float = 0.0
    gradient_steps_per_1000: float = 0.0
    cpu_seconds_per_million: float = 0.0
    start_to_end_seconds: float = 0.0
    process_seconds: float = 0.0
    largest_process_mb: float = 0.0
    load_before: float = 0.0
    cores: int = 0
    versions: str = ""
    problem: str = ""


def main() -> None:
    """Print the report of a file of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="rows, as throughput.py --csv stores them")
    print(report(read_rows(parser.parse_args().csv, Row), ""))


def progress_line(row: Row) -> str:
    """One measurement, while the others run."""
    name = f"{row.env} {row.kind} {row.repeat}: {side_name(row):<24}"
    if row.problem:
        return f"{name} failed: {row.problem}"
    threads = f"torch threads {row.torch_threads}, simulator threads {row.simulator_threads}"
    return f"{name} {row.steps_per_second:>10,.0f} steps/s ({threads})"


def report(rows: list[Row], command: str) -> str:
    """Markdown: the summary, then per environment speeds and ratios; then what they were measured with."""
    environments = list(dict.fromkeys(row.env for row in rows))
    lines = ["# Training speed against stable-baselines3 and sheeprl", "", METHOD, "", *summary(rows), ""]
    for env in environments:
        mine = [row for row in rows if row.env == env and row.kind != "calibration"]
        lines += [f"## {env}", "", *speed_table(mine), "", *ratio_table(mine), "", *differing_work(mine)]
    lines += calibrations(rows)
    if command:
        lines += [f"Command: `{command}`  "]
    loads = [row.load_before for row in rows if not row.problem] or [0.0]
    cores = max((row.cores for row in rows), default=0)
    lines += [f"Machine: {platform.machine()}, {cores} cores, {platform.system()}; load before the first measurement "
              f"{loads[0]}  "]  # fmt: skip
    for side in SIDES:
        found = sorted({row.versions for row in rows if row.side == side and row.versions})
        lines += [f"Versions, {side}: {'; '.join(found).replace('=', ' ')}  "] if found else []
    return "\n".join(lines)


def summary(rows: list[Row]) -> list[str]:
    """One line per environment: ppolab, and every framework's fastest way to run."""
    head = ["environment", "ppolab steps/s", "of the simulator's own speed"]
    for framework in FRAMEWORKS.values():
        head += [f"{framework}, fastest", "steps/s", "ratio (least to most)"]
    lines = []
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        ours, ceiling = group_speeds(mine, "ppolab", "pair"), group_speeds(mine, "simulator", "ceiling")
        speed = statistics.median(ours) if ours else 0.0
        best = max(medians_by_threads(mine), default=0.0) if ceiling else 0.0
        cells = [env, f"{speed:,.0f}" if ours else "-", f"{speed / best:.0%}" if best and ours else "-"]
        for side in FRAMEWORKS:
            cells += fastest(mine, side)
        lines.append(cells)
    return markdown(head, lines)


def fastest(rows: list[Row], side: str) -> list[str]:
    """Name, speed and ratio of a framework's fastest peer; what went wrong if none was measured."""
    measured = [row for row in rows if row.side == side and row.kind == "pair" and not row.problem]
    if not measured:
        problems = [row.problem for row in rows if row.side == side and row.problem]
        return [f"failed: {problems[0]}" if problems else "-", "-", "-"]
    speeds = {peer: median([row for row in measured if row.peer == peer]) for peer in {row.peer for row in measured}}
    name = max(speeds, key=lambda peer: speeds[peer])
    ratios = pair_ratios(rows, name)
    spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if ratios else "-"
    return [name, f"{speeds[name]:,.0f}", spread]


def medians_by_threads(rows: list[Row]) -> list[float]:
    """The simulator's speed with each number of threads."""
    ceilings = [row for row in rows if row.kind == "ceiling" and not row.problem]
    return [
        median([row for row in ceilings if row.simulator_threads == threads])
        for threads in sorted({row.simulator_threads for row in ceilings})
    ]


def speed_table(rows: list[Row]) -> list[str]:
    """Medians per side; ppolab's are over all its measurements."""
    counts = sorted({row.simulator_threads for row in rows if row.kind == "ceiling" and not row.problem})
    ceilings = medians_by_threads(rows)
    shares = [f"of ceiling, {threads} thread{'s' if threads > 1 else ''}" for threads in counts]
    head = [
        "side", "threads torch/simulator", "runs", "steps/s: median", "min", "max", *shares, "gradient steps: all",
        "per 1,000 steps", "start to end of training, s", "CPU s per million steps", "largest process, MB",
    ]  # fmt: skip
    lines = []
    for name, group in groups(rows).items():
        good = [row for row in group if not row.problem]
        if good:
            lines.append([name, *speed_cells(good, ceilings)])
        else:
            lines.append([name, f"failed: {group[0].problem}", *[""] * (len(head) - 2)])
    return markdown(head, lines, texts=3)


def speed_cells(group: list[Row], ceilings: list[float]) -> list[str]:
    """A line of the speed table, from rows that repeat each other."""
    speed = median(group)
    low, high = min(row.steps_per_second for row in group), max(row.steps_per_second for row in group)
    cells = [f"{group[0].torch_threads or '-'} / {group[0].simulator_threads}", str(len(group))]
    cells += [f"{speed:,.0f}", f"{low:,.0f}", f"{high:,.0f}"]
    cells += [f"{speed / ceiling:.0%}" for ceiling in ceilings]
    if group[0].kind == "pair":
        cells += [f"{median(group, 'gradient_steps'):,.0f}", f"{median(group, 'gradient_steps_per_1000'):.1f}"]
        cells += [f"{median(group, 'start_to_end_seconds'):,.1f}"]
    else:
        cells += ["", "", ""]
    return [*cells, f"{median(group, 'cpu_seconds_per_million'):,.0f}", f"{median(group, 'largest_process_mb'):,.0f}"]


def groups(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that repeat each other, under the name of their line in the table."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: SIDES.index(row.side)):
        found.setdefault(side_name(row), []).append(row)
    return found


def side_name(row: Row) -> str:
    """As in the tables."""
    if row.side == "simulator":
        threads = f"{row.simulator_threads} thread{'s' if row.simulator_threads > 1 else ''}"
        return f"EnvPool alone, random actions, {row.num_envs} environments, {threads}"
    if row.side == "ppolab":
        return f"ppolab, {row.num_envs} environments" if row.num_envs else "ppolab"
    return f"{FRAMEWORKS[row.side]} {row.peer}"


def pair_ratios(rows: list[Row], peer: str) -> list[float]:
    """ppolab's speed over a peer's, for every repeat in which both were measured."""
    pairs = [row for row in rows if row.kind == "pair" and row.peer == peer and not row.problem]
    ours = {row.repeat: row.steps_per_second for row in pairs if row.side == "ppolab"}
    theirs = {row.repeat: row.steps_per_second for row in pairs if row.side != "ppolab"}
    return [ours[repeat] / theirs[repeat] for repeat in sorted(ours) if repeat in theirs]


def ratio_table(rows: list[Row]) -> list[str]:
    """ppolab's speed over every peer's, pair by pair."""
    lines = []
    for peer in dict.fromkeys(row.peer for row in rows if row.kind == "pair" and row.peer):
        ratios = pair_ratios(rows, peer)
        numbers = [statistics.median(ratios), min(ratios), max(ratios)] if ratios else []
        cells = [f"{number:.2f}" for number in numbers] or ["-"] * 3
        lines.append([f"ppolab / {peer}", *cells, str(len(ratios))])
    return markdown(["ratio of steps/s, pair by pair", "median", "min", "max", "pairs"], lines)


def differing_work(rows: list[Row]) -> list[str]:
    """A warning, if a side did not make as many gradient steps per environment step as ppolab."""
    pairs = [row for row in rows if row.kind == "pair" and not row.problem]
    ours = [row.gradient_steps_per_1000 for row in pairs if row.side == "ppolab"]
    lines = []
    for name, group in groups(pairs).items():
        theirs = median(group, "gradient_steps_per_1000")
        if ours and abs(theirs / statistics.median(ours) - 1) > SAME_WORK:
            lines += [f"Not the same work: {name} made {theirs:.1f} gradient steps per 1,000 steps, ppolab "
                      f"{statistics.median(ours):.1f}.", ""]  # fmt: skip
    return lines


def calibrations(rows: list[Row]) -> list[str]:
    """The short measurements that chose the peers' torch threads."""
    found = [row for row in rows if row.kind == "calibration"]
    lines = [
        [side_name(row), row.env, str(row.torch_threads), row.problem or f"{row.steps_per_second:,.0f}"]
        for row in found
    ]
    if not lines:
        return []
    head = ["calibration, one short measurement each", "environment", "torch threads", "steps/s"]
    return [*markdown(head, lines, texts=2), ""]


def group_speeds(rows: Iterable[Row], side: str, kind: str) -> list[float]:
    """The speeds of one side that were measured."""
    return [row.steps_per_second for row in rows if row.side == side and row.kind == kind and not row.problem]


def median(rows: list[Row], name: str = "steps_per_second") -> float:
    """Of one column."""
    return float(statistics.median(getattr(row, name) for row in rows))


if __name__ == "__main__":
    main()
