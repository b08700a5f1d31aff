"""Hand the reason of a rank's sudden end to the rank that started it.

A rank usually returns its problem through the process pool. A rank whose main thread is stuck cannot; it writes the
problem to a file and ends. The variable `ERROR_FILE` names the file, as TORCHELASTIC_ERROR_FILE does for torchrun.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ppolab.records.run_folder import write_whole

ERROR_FILE = "PPOLAB_ERROR_FILE"
"""Environment variable: the file for the problem that ends this rank."""


def write_error(problem: str) -> None:
    """Write `problem` to the file that `ERROR_FILE` names, whole or not at all; do nothing without the variable."""
    path = os.environ.get(ERROR_FILE)
    if path:
        with contextlib.suppress(OSError):  # a full disk; the problem is in the rank's log as well
            write_whole(Path(path), problem)


def read_error(path: Path) -> str | None:
    """Return the problem that a rank has left in the file `path`; None if it left none."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
