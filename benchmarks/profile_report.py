"""Table and picture of profile.py."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from result_tables import markdown as table

ALLOWED = 0.05
"""What Lightning, progress and logging may take of an iteration."""


@dataclass(frozen=True)
class Profile:
    """Where iterations of `steps` environment steps in all spent their time.

    Attributes:
        each: seconds of every part, also of those that do not belong to an iteration, iteration by iteration.
        parts: what an iteration consists of, in order. overhead: those of them that must stay small.
        load: of the machine before the run.
    """

    env: str
    steps: int
    each: tuple[dict[str, float], ...]
    parts: tuple[str, ...]
    overhead: tuple[str, ...]
    load: float

    @property
    def iterations(self) -> int:
        """How many were measured."""
        return len(self.each)

    @property
    def seconds(self) -> dict[str, float]:
        """Of every part, over all iterations."""
        names = dict.fromkeys(part for iteration in self.each for part in iteration)
        return {part: sum(iteration.get(part, 0.0) for iteration in self.each) for part in names}

    def median(self, parts: Iterable[str]) -> float:
        """Seconds of some parts together in the middle iteration, which a moment of another program does not move."""
        names = tuple(parts)
        return statistics.median(sum(iteration.get(part, 0.0) for part in names) for iteration in self.each)

    @property
    def whole(self) -> float:
        """Seconds of all iterations."""
        return sum(self.seconds.get(part, 0.0) for part in self.parts)

    @property
    def overhead_share(self) -> float:
        """Of the iterations' time."""
        return sum(self.seconds.get(part, 0.0) for part in self.overhead) / self.whole

    @property
    def apart(self) -> dict[str, float]:
        """Seconds between the iterations that are not theirs."""
        return {part: seconds for part, seconds in self.seconds.items() if part not in self.parts}


def colors(parts: Iterable[str]) -> dict[str, str]:
    """By part, the same in all pictures."""
    return {part: f"C{index}" for index, part in enumerate(parts)}


def markdown(profile: Profile, command: str, versions: str, timeline: Iterable[str] = ()) -> str:
    """The report; `timeline` says what the picture of one iteration shows."""
    lines = [
        f"# Where the time of an iteration goes: {profile.env}",
        "",
        f"![parts of an iteration]({profile.env}.png)",
    ]
    lines += ["", *table(["part", "ms per iteration: mean", "percent", "median"], part_lines(profile)), ""]
    if timeline := list(timeline):
        lines += [f"![one iteration, thread by thread]({profile.env}-timeline.png)", ""]
    verdict = "within" if profile.overhead_share <= ALLOWED else "MORE THAN"
    middle = profile.median(profile.overhead) / profile.median(profile.parts)
    lines += [f"{' + '.join(profile.overhead)}: {profile.overhead_share:.2%} ({verdict} the {ALLOWED:.0%} allowed); of "
              f"the medians {middle:.2%}  "]  # fmt: skip
    lines += [f"Steps per second of these iterations: {profile.steps / profile.whole:,.0f}, with the timers on  "]
    for part, seconds in profile.apart.items():
        lines += [f"Besides, in the same span: {part} {seconds:.2f} s  "]
    lines += timeline
    lines += [f"Command: `{command}`; load before {profile.load:.2f}  ", f"Versions: {versions}  "]
    return "\n".join(lines) + "\n"


def part_lines(profile: Profile) -> list[list[str]]:
    """A line per part, and the whole."""
    whole = f"whole, {profile.iterations} iterations of {profile.steps / profile.iterations:,.0f} steps"
    named = [(part, (part,)) for part in profile.parts]
    lines = []
    for name, parts in [*named, (whole, profile.parts)]:
        seconds = sum(profile.seconds.get(part, 0.0) for part in parts)
        mean, middle = seconds / profile.iterations, profile.median(parts)
        lines.append([name, f"{1e3 * mean:,.2f}", f"{seconds / profile.whole:.1%}", f"{1e3 * middle:,.2f}"])
    return lines


def store(profile: Profile, target: Path) -> None:
    """The numbers as CSV."""
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["env", "part", "iterations", "steps", "seconds", "of_iteration"])
        for part, seconds in profile.seconds.items():
            belongs = part in profile.parts
            row = [profile.env, part, profile.iterations, profile.steps, round(seconds, 6), belongs]
            writer.writerow(row)


def draw(profile: Profile, target: Path) -> None:
    """One bar, from left to right what an iteration consists of."""
    figure = Figure(figsize=(9, 2.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    left = 0.0
    for part in profile.parts:
        width = 1e3 * profile.seconds.get(part, 0.0) / profile.iterations
        share = profile.seconds.get(part, 0.0) / profile.whole
        bars = axes.barh(
            [profile.env],
            [width],
            left=left,
            color=colors(profile.parts)[part],
            label=f"{part} {share:.1%}",
            height=0.5,
        )
        if share > 0.04:  # narrower ones have no room for a number
            axes.bar_label(bars, labels=[f"{width:.1f}"], label_type="center", fontsize=8, color="white")
        left += width
    axes.set_xlabel("milliseconds of an iteration")
    axes.set_xlim(0, left)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(profile.parts) // 2 + 1, fontsize=8, frameon=False)
    figure.savefig(target)
