"""Read from a run's files how far it is; cheap enough to be done every second while it trains."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

from ppolab.records.run_folder import RunFolder

TAIL_BYTES = 16384
"""The last rows of metrics.csv that are read: some fifty iterations."""
RETURNS = ("train/return", "eval/return")
"""Metrics that say what a run has reached; the first one that was measured is shown."""
TOTAL_STEPS = re.compile(r"^total_steps: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class RunProgress:
    """Hold how far a run is: environment steps so far and in all, and its latest return, None before there is one."""

    steps: int
    total_steps: int
    episode_return: float | None

    @property
    def percent(self) -> int:
        """Return the share of the steps; 100 while the last evaluation is made."""
        return min(100, 100 * self.steps // self.total_steps)


def progress_of(folder: RunFolder) -> RunProgress | None:
    """Return how far a run is; None before its first iteration. Reads a few kilobytes, however long the run is."""
    try:
        total = TOTAL_STEPS.search(folder.config.read_text(encoding="utf-8"))
        header, rows = _last_rows(folder)
    except (OSError, UnicodeDecodeError):
        return None
    if total is None or not rows:
        return None
    for name in RETURNS:
        for row in reversed(rows):
            value = dict(zip(header, row, strict=False)).get(name)
            if value:
                return RunProgress(int(float(rows[-1][0])), int(total[1]), float(value))
    return RunProgress(int(float(rows[-1][0])), int(total[1]), None)


def _last_rows(folder: RunFolder) -> tuple[list[str], list[list[str]]]:
    """Return (columns, last rows), without a row that is being written."""
    with folder.metrics.open("rb") as file:
        columns = file.readline()
        begin = file.tell()
        end = file.seek(0, 2)
        file.seek(max(begin, end - TAIL_BYTES))
        cut = file.tell() > begin
        whole = file.read().rpartition(b"\n")[0].decode().splitlines()
    return columns.decode().strip().split(","), [row for row in csv.reader(whole[cut:]) if row]
