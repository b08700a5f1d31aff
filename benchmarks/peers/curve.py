"""What the programs that train to a return write down: the curve, and when its first environment step was."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WINDOW = 100
"""Episodes that a return is the mean of."""


class Curve:
    """Points of (wall clock, environment steps, mean return of the last episodes, how many episodes those are)."""

    def __init__(self) -> None:
        self._first_step: float | None = None
        self._points: list[dict[str, Any]] = []

    def start(self) -> None:
        """Everything is built; the environments are about to be reset and stepped."""
        self._first_step = time.time()

    def add(self, steps: int, returns: Sequence[float]) -> None:
        """A point after `steps` environment steps; `returns` of the newest episodes, at most WINDOW of them."""
        if returns:
            mean = float(sum(returns) / len(returns))
            point = {"clock": time.time(), "steps": steps, "return": round(mean, 3), "episodes": len(returns)}
            self._points.append(point)

    def write(self, target: Path, versions: dict[str, str]) -> None:
        """Store it as JSON."""
        record = {"first_step": self._first_step, "ended": time.time(), "points": self._points, "versions": versions}
        target.write_text(json.dumps(record) + "\n")
