"""Read a tutorial: the files it tells a reader to write, the commands it tells to type, and the output it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
ANYTHING = "…"
"""Stands in shown output for what differs from run to run."""
CONTINUED = re.compile(r"\s*\\\n\s*")


@dataclass(frozen=True)
class File:
    """A file to write."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command to type, and the lines that it is shown to print."""

    typed: str
    shown: tuple[str, ...]


def steps_of(page: Path) -> list[File | Command]:
    """Return what a page tells a reader to do, in order.

    A fenced block with a title is a file. In a `console` block, a line with `$` is a command, and what follows it is
    its output. Other blocks are only read.
    """
    steps: list[File | Command] = []
    for block in FENCE.finditer(page.read_text()):
        if block["title"]:
            steps.append(File(block["title"], block["body"]))
        elif block["language"] == "console":
            steps.extend(_commands(block["body"]))
    return steps


def _commands(body: str) -> list[Command]:
    _, *parts = re.split(r"^\$ ", CONTINUED.sub(" ", body), flags=re.MULTILINE)
    lines = [part.rstrip().split("\n") for part in parts]
    return [Command(typed, tuple(filter(None, shown))) for typed, *shown in lines]


def missing_line(shown: tuple[str, ...], printed: str) -> str | None:
    """Return the first shown line that was not printed after the ones before it; None: all were."""
    lines = iter(printed.splitlines())
    for expected in (line for line in shown if line != ANYTHING):
        parts = map(re.escape, re.split(r"\s+", expected.strip()))
        pattern = re.compile(r"\s+".join(parts).replace(ANYTHING, ".*"))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            return expected
    return None
