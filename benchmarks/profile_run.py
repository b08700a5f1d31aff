"""The run behind profile.py, whose own file can hold little: the standard library has a module of its name."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import profile_report
import profile_timeline
from peers import ppolab_command
from processes import ROOT, versions
from profile_report import Profile
from selftime import MissingName, SelfTime, between

REST = "Lightning"
OVERHEAD = (REST, "progress", "logging")
APART = ("evaluation", "checkpoints")
NESTED = {"update": ("advantages",), "advantages": (), "evaluation": (), "checkpoints": ()}
"""What may begin inside a part; what the policy computes inside an update is update."""


def main(description: str, parts: tuple[tuple[str, str], ...]) -> None:
    """Run, write the table, the picture and the numbers, print the table."""
    command = shlex.join(["python", "benchmarks/profile.py", *sys.argv[1:]])
    arguments = parse_arguments(description)
    recorder = profile_timeline.Recorder()
    timer = SelfTime(REST, NESTED, spent=recorder.spent)
    try:
        recorder.install()
        timer.install(parts)
    except MissingName as error:
        raise SystemExit(f"benchmarks/profile.py: {error}") from None
    load = os.getloadavg()[0]
    marks = run(arguments, timer, recorder)
    if len(marks) <= arguments.warmup + 1:
        raise SystemExit(f"{len(marks)} iterations are too few after a warm-up of {arguments.warmup}; raise --steps")
    measured = marks[arguments.warmup :]
    profile = Profile(
        env=arguments.env,
        steps=measured[-1].steps - measured[0].steps,
        each=tuple(between(before.seconds, after.seconds) for before, after in pairwise(measured)),
        parts=(*dict.fromkeys(part for _, part in parts if part not in APART), REST),
        overhead=OVERHEAD,
        load=load,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    iterations = recorder.iterations[arguments.warmup :]
    text = profile_report.markdown(profile, command, versions(), profile_timeline.lines(iterations))
    (arguments.out / f"{arguments.env}.md").write_text(text)
    profile_report.store(profile, arguments.out / f"{arguments.env}.csv")
    profile_report.draw(profile, arguments.out / f"{arguments.env}.png")
    colors = profile_report.colors(profile.parts)
    target = arguments.out / f"{arguments.env}-timeline.png"
    profile_timeline.draw(arguments.env, profile_timeline.median_iteration(iterations, APART), colors, target)
    print(text)


def parse_arguments(description: str) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5", metavar="ID", help="environment id (Hopper-v5)")
    parser.add_argument("--steps", type=int, default=250_000, help="environment steps (250000)")
    parser.add_argument("--warmup", type=int, default=20, help="iterations that do not count (20)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results" / "profile",
        help="folder of the results (docs/results/profile)",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", help="settings of ppolab, as for src/train.py")
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    return arguments


@dataclass(frozen=True)
class Mark:
    """The end of an iteration: environment steps, and the seconds of every part, since the start."""

    steps: int
    seconds: dict[str, float]


def run(arguments: argparse.Namespace, timer: SelfTime, recorder: profile_timeline.Recorder) -> list[Mark]:
    """Train with ppolab's own command line in a folder of its own.

    Raises:
        SystemExit: the training failed.
    """
    marks: list[Mark] = []

    def ended(module: Any) -> None:
        marks.append(Mark(module.steps, timer.seconds()))
        recorder.ended()

    ppolab_command.after_iterations(ended)
    settings = [f"env.id={arguments.env}", f"total_steps={arguments.steps}", *arguments.overrides]
    os.environ["FORCE_COLOR"] = "1"  # the progress line is drawn only for what takes itself for a terminal
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with Path("screen.txt").open("w") as screen, contextlib.redirect_stderr(screen):
            code = ppolab_command.train(settings)
        if code:
            print(Path("screen.txt").read_text(), file=sys.stderr)
            raise SystemExit(code)
    return marks
