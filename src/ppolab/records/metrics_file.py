"""Keep a run's own record of its metrics: a CSV file beside the tracking store."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppolab.errors import ConfigError
from ppolab.records.run_folder import write_whole

log = logging.getLogger(__name__)


class MetricsFile:
    """Append one row per logged step; every row is on disk before the next iteration.

    Rows that cannot be written, as on a full disk, wait for the next one. A file that was removed is made again, with
    all that it held.
    """

    def __init__(self, path: Path, metrics: Sequence[str], first_step: int) -> None:
        """Open the file, and drop the rows beyond `first_step`: a resumed run will write them again.

        Args:
            metrics: the columns. first_step: where the run begins.
        """
        self._columns = ("step", *metrics)
        kept = [row for row in _rows(path) if float(row["step"]) <= first_step] if path.is_file() else []
        kept = [{name: row.get(name, "") for name in self._columns} for row in kept]  # of another version, perhaps
        write_whole(path, ",".join(self._columns) + "\n" + self._lines(kept))
        self._path = path
        self._waiting = b""
        self._told = False
        self._open()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one row; metrics that were not measured at this step stay empty.

        Raises:
            ConfigError: there is one that the run was not said to have.
        """
        for name in metrics.keys() - set(self._columns):
            raise ConfigError(f"{name}: no metric of this run; name it under metrics in the algorithm's file")
        self._waiting += self._lines([{"step": step, **metrics}]).encode()
        try:
            if not self._path.exists():
                self._make_again()
            self._append()
        except OSError as error:
            if not self._told:
                log.warning("%s: cannot be written: %s; rows wait in memory", self._path, error.strerror or error)
            self._told = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab+", buffering=0)
        self._size = self._file.seek(0, os.SEEK_END)

    def _append(self) -> None:
        """Write all rows that wait, or none: half a row would spoil the file."""
        written = 0
        try:
            while written < len(self._waiting):
                written += self._file.write(self._waiting[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += written
        self._waiting, self._told = b"", False

    def _lines(self, rows: Iterable[Mapping[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def _make_again(self) -> None:
        """Write the file again from the open one, which can still be read after it was removed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file.seek(0)
        write_whole(self._path, self._file.read().decode())
        self._file.close()
        self._open()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a metrics file, each with the columns that were measured."""
    return [{key: float(value) for key, value in row.items() if value} for row in _rows(path)]


def metrics_by_step(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Return the rows of a metrics file, each as its step and the metrics that were measured."""
    return [
        (int(row["step"]), {key: value for key, value in row.items() if key != "step"}) for row in read_metrics(path)
    ]


def metric_columns(path: Path) -> list[str]:
    """Return the metrics that a metrics file has columns for."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().split(",")[1:]


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows, without a last line that was being written when the machine went down."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return list(csv.DictReader(io.StringIO(whole)))
