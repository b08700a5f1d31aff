"""Seconds from launching a command to its first result: help, a configuration error, the first environment step.

Every measurement is a fresh process, its files cached by an unmeasured run before. The commands take turns, so that a
busy machine slows all alike. Wall-clock time starts before the process does and ends with it; a run of training ends at
the first call of an environment's step, after all that the command does until then. CPU time is user plus system, of
all threads and children.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "src" / "train.py"
COMMANDS = {
    "--help": ("--help",),
    "error: mistyped key": ("clipp=0.1",),
    "error: unknown environment": ("env.id=Hoper-v5",),
    "first step: defaults": (),
    "first step: env=cartpole": ("env=cartpole",),
    "first step: env=hopper": ("env=hopper",),
}
"""What is measured, and the arguments of src/train.py; up to a first step where the name says so."""


@dataclass(frozen=True)
class Row:
    """One measurement, one line of the CSV."""

    command: str
    repeat: int
    wall_seconds: float
    cpu_seconds: float
    load_before: float


def main() -> None:
    """Measure every command in turn, print the medians; or be the measured process of one of them."""
    if sys.argv[1:2] == ["--until-first-step"]:
        train_until_first_step(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each command (7)")
    parser.add_argument("--csv", type=Path, help="file for the single measurements")
    arguments = parser.parse_args()
    rows = []
    for repeat in range(arguments.repeats + 1):
        measured = [measure(name, repeat) for name in COMMANDS]
        rows += measured if repeat else []  # the first round only warms the caches
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    print(report(rows))


def measure(name: str, repeat: int) -> Row:
    """Run one command in an empty folder."""
    runner = [str(TRAIN)] if not name.startswith("first step") else [__file__, "--until-first-step"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, Path(folder, "output").open("w+") as output:
        started = time.perf_counter()
        command = [sys.executable, *runner, *COMMANDS[name]]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != (2 if name.startswith("error") else 0):
            raise SystemExit(
                f"{shlex.join(command)}: exit code {process.returncode}\n{Path(folder, 'output').read_text()}"
            )
    return Row(name, repeat, round(seconds, 3), round(usage.ru_utime + usage.ru_stime, 3), round(load, 2))


def train_until_first_step(arguments: list[str]) -> NoReturn:
    """What `python src/train.py ARGUMENTS` does, but the first call of an environment's step ends the process."""
    sys.path.insert(0, str(TRAIN.parent))
    sys.argv = [str(TRAIN), *arguments]
    from ppolab.cli.commands import train

    sys.meta_path.insert(0, _EndAtFirstStep())
    train()


class _EndAtFirstStep(MetaPathFinder):
    """Waits until the command itself has imported the environments, so as not to change its order."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Once Lightning is asked for, change the environments' steps; finds nothing itself."""
        if fullname == "pytorch_lightning":
            sys.meta_path.remove(self)
            from ppolab.envs.envpool_backend import EnvPoolEnv
            from ppolab.envs.gymnasium_backend import GymnasiumEnv

            for kind in (EnvPoolEnv, GymnasiumEnv):
                for name in {"step", "send", "begin_calls"} & set(dir(kind)):
                    setattr(kind, name, lambda *_: os._exit(0))


def report(rows: list[Row]) -> str:
    """Markdown: medians and spread."""
    lines = ["| command | wall s: median | min | max | CPU s: median | min | max |", "| --- |" + " ---: |" * 6]
    for name in COMMANDS:
        cells = []
        for column in ("wall_seconds", "cpu_seconds"):
            values = [getattr(row, column) for row in rows if row.command == name]
            cells += [f"{number:.2f}" for number in (statistics.median(values), min(values), max(values))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    repeats = max(row.repeat for row in rows)
    return "\n".join(
        [
            *lines,
            "",
            f"Command: `{shlex.join(['python', 'benchmarks/startup.py', *sys.argv[1:]])}`; {repeats} repeats.  ",
            f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python "
            f"{platform.python_version()}; load before the first measurement {rows[0].load_before}",
        ]
    )


if __name__ == "__main__":
    main()
