"""Table and picture of profile.py."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from result_tables import markdown as table

ALLOWED = 0.05
"""What Lightning, progress and logging may take of an iteration."""


@dataclass(frozen=True)
class Profile:
    """Where `iterations` iterations of `steps` environment steps in all spent their time.

    Attributes:
        seconds: of every part, also of those that do not belong to an iteration.
        parts: what an iteration consists of, in order. overhead: those of them that must stay small.
    """

    env: str
    iterations: int
    steps: int
    seconds: dict[str, float]
    parts: tuple[str, ...]
    overhead: tuple[str, ...]

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


def markdown(profile: Profile, command: str, versions: str) -> str:
    """The report."""
    lines = [
        f"# Where the time of an iteration goes: {profile.env}",
        "",
        f"![parts of an iteration]({profile.env}.png)",
    ]
    lines += ["", *table(["part", "ms per iteration", "percent"], part_lines(profile)), ""]
    verdict = "within" if profile.overhead_share <= ALLOWED else "MORE THAN"
    lines += [f"{' + '.join(profile.overhead)}: {profile.overhead_share:.2%} ({verdict} the {ALLOWED:.0%} allowed)  "]
    lines += [f"Steps per second of these iterations: {profile.steps / profile.whole:,.0f}, with the timers on  "]
    for part, seconds in profile.apart.items():
        lines += [f"Besides, in the same span: {part} {seconds:.2f} s  "]
    lines += [f"Command: `{command}`  ", f"Versions: {versions}  "]
    return "\n".join(lines) + "\n"


def part_lines(profile: Profile) -> list[list[str]]:
    """A line per part, and the whole."""
    lines = []
    for part in profile.parts:
        seconds = profile.seconds.get(part, 0.0)
        lines.append([part, f"{1e3 * seconds / profile.iterations:,.2f}", f"{seconds / profile.whole:.1%}"])
    whole = f"whole, mean of {profile.iterations} iterations of {profile.steps / profile.iterations:,.0f} steps"
    return [*lines, [whole, f"{1e3 * profile.whole / profile.iterations:,.2f}", "100.0%"]]


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
        bars = axes.barh([profile.env], [width], left=left, label=f"{part} {share:.1%}", height=0.5)
        if share > 0.04:  # narrower ones have no room for a number
            axes.bar_label(bars, labels=[f"{width:.1f}"], label_type="center", fontsize=8, color="white")
        left += width
    axes.set_xlabel("milliseconds of an iteration")
    axes.set_xlim(0, left)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(profile.parts) // 2 + 1, fontsize=8, frameon=False)
    figure.savefig(target)
