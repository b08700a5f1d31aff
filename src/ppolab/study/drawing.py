"""Draw a study beside its last trials: in processes that load what pictures take while these still train."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import optuna

from ppolab.runtime.fork_server import ProcessPool
from ppolab.study.plots import draw, load_plotting, plot_names, plots_of
from ppolab.study.settings import StudySettings
from ppolab.study.storage import open_storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredStudy:
    """Say where a process finds a study: the storage's URL or None for a file in `folder`, and the study's name."""

    storage: str | None
    folder: Path
    name: str

    def opened(self) -> optuna.Study:
        """Return the study as it is stored now."""
        return optuna.load_study(
            study_name=self.name, storage=open_storage(self.storage, self.name, self.folder).optuna
        )


@dataclass(frozen=True)
class Drawn:
    """Hold the files that a process has drawn, and what it warned of."""

    files: Sequence[Path]
    problems: Sequence[str] = field(default_factory=tuple)


class Drawing:
    """Draw the pictures of a study, each process some of them.

    Args:
        processes: how many; with 0, this process draws them all.
    """

    def __init__(self, stored: StoredStudy, settings: StudySettings, folder: Path, processes: int) -> None:
        self._stored = stored
        self._settings = settings
        self._folder = folder
        self._count = processes
        self._pool: ProcessPool | None = None
        self._words: list[Connection] = []

    def prepare(self) -> None:
        """Start the processes, which load what they need; a second call does nothing."""
        if self._pool is not None or self._count == 0:
            return
        self._pool = ProcessPool(self._count, ())
        for number in range(self._count):
            word, theirs = Pipe()
            arguments = (self._stored, self._settings, self._folder, number, self._count, theirs)
            self._pool.start(number, _draw_when_told, arguments, Path(os.devnull), {})
            theirs.close()
            self._words.append(word)

    def pictures(self, study: optuna.Study) -> list[Path]:
        """Draw the study as it is now; return the files, in the order of their plots."""
        names = plot_names(study, self._settings)
        if not names:
            return []
        self.prepare()
        if self._pool is None:
            return _told(draw(study, self._settings, self._folder, names))
        for word in self._words:
            word.send(names)
        files: set[Path] = set()
        while not self._pool.is_idle:
            for ended in self._pool.wait(60.0):
                drawn = Drawn((), [f"no plots: {ended.error}"]) if ended.error else Drawn(*ended.result)
                files |= set(_told((drawn.files, drawn.problems)))
        return sorted(files, key=lambda file: (names.index(file.stem), file.suffix != ".png"))

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self._pool is not None:
            self._pool.stop()
        for word in self._words:
            word.close()


def _told(drawn: tuple[Sequence[Path], Sequence[str]]) -> list[Path]:
    files, problems = drawn
    for problem in problems:
        log.warning("%s", problem)
    return list(files)


def _draw_when_told(
    stored: StoredStudy, settings: StudySettings, folder: Path, number: int, count: int, word: Connection
) -> tuple[Sequence[Path], Sequence[str]]:
    """Load what the plots of process `number` of `count` take, wait for the names of all plots, and draw those."""
    mine = plots_of(number, count)
    load_plotting(mine)
    try:
        names = word.recv()
    except EOFError:  # there is nothing to draw
        return (), ()
    return draw(stored.opened(), settings, folder, [name for name in names if name in mine])
