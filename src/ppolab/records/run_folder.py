"""Name the files in a run's folder, and find the folder again. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ppolab.errors import ConfigError, nearest

OUTPUTS = Path("outputs")
CHECKPOINT_SUFFIX = ".ckpt"
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """The file with the run's MLflow id and store, and whether it is finished."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """Every metric ever logged, one row per step and name."""
        return self.path / "metrics.csv"

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return self.path / "learning_curve.png"

    @property
    def tensorboard(self) -> Path:
        """The folder of event files for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def video(self) -> Path:
        """The film of one episode."""
        return self.path / "video.mp4"

    @property
    def backlog(self) -> Path:
        """The records that the tracking store never acknowledged."""
        return self.path / "tracking_backlog.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Checkpoint `last` or `best`."""
        return self.path / "checkpoints" / f"{name}{CHECKPOINT_SUFFIX}"

    def write_record(self, run_id: str | None, tracking_uri: str, *, finished: bool = False) -> None:
        """Remember under which id the tracking store knows this run, and whether there is anything left to do."""
        record = {"run_id": run_id, "tracking_uri": tracking_uri, "finished": finished}
        text = json.dumps(record) + "\n"
        try:
            write_whole(self.record, text)
        except OSError:  # on a full disk, what is there can still be written over
            with self.record.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()

    def run_id(self) -> str | None:
        """Return the MLflow run id, or None for a run without one."""
        value = self._recorded().get("run_id")
        return str(value) if value else None

    @property
    def is_finished(self) -> bool:
        """Whether its training came to its end."""
        return bool(self._recorded().get("finished"))

    def _recorded(self) -> dict[str, object]:
        try:
            content = json.loads(self.record.read_text())
        except (OSError, ValueError):  # absent, or damaged, which must not keep other runs from being found
            return {}
        return content if isinstance(content, dict) else {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training this run; the system lets go of it when this one ends, however it does.

        Raises:
            ConfigError: another process trains it.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{self.path}: another process is training this run; wait for its end, or stop it"
            ) from None
        try:
            yield
        finally:
            lock.release()


def write_whole(path: Path, text: str) -> None:
    """Replace the file at `path`, or leave it as it was: never half of a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class FoundRun:
    """A run and the checkpoint of it that was asked for."""

    folder: RunFolder
    checkpoint: Path


def find_run(key: str, value: str, checkpoint: str = "last", outputs: Path = OUTPUTS) -> FoundRun:
    """Return the run that `value` names: a run folder, a checkpoint file, or an MLflow run id.

    Args:
        key: the setting that names it, for the message. checkpoint: `last` or `best`, unless value is a file.

    Raises:
        ConfigError: there is no such run, or it has no such checkpoint.
    """
    path = Path(value)
    if len(path.parts) < 3:  # too short a name to have a run's folder in it
        path = path.absolute()
    if path.is_file():
        if path.suffix != CHECKPOINT_SUFFIX or not (path.parents[1] / "config.yaml").is_file():
            raise ConfigError(f"{key}={value}: is not a checkpoint in a run folder (RUN/checkpoints/*.ckpt)")
        return FoundRun(RunFolder(path.parents[1]), path)
    if path.is_dir() and path.name == "checkpoints" and (path.parent / "config.yaml").is_file():
        path = path.parent
    folder = RunFolder(path) if path.is_dir() else _folder_of_id(key, value, outputs)
    if not folder.config.is_file():
        raise ConfigError(f"{key}={value}: is not a run folder; it has no config.yaml{_newest_hint(outputs)}")
    for name in (checkpoint, "last"):
        if folder.checkpoint(name).is_file():
            return FoundRun(folder, folder.checkpoint(name))
    raise ConfigError(f"{key}={value}: has no checkpoint; the run ended before its first one was written")


def unfinished_run(is_wanted: Callable[[RunFolder], bool], outputs: Path = OUTPUTS) -> RunFolder | None:
    """Return the newest run that has a checkpoint, is not finished, is not being trained, and is wanted."""
    for folder in _folders(outputs):
        if not folder.is_finished and folder.checkpoint("last").is_file() and is_wanted(folder):
            with contextlib.suppress(ConfigError), folder.held():
                return folder
    return None


def _folder_of_id(key: str, value: str, outputs: Path) -> RunFolder:
    folders = {run_id: folder for folder in _folders(outputs) if (run_id := folder.run_id())}
    if value in folders:
        return folders[value]
    kind = "run id" if RUN_ID.fullmatch(value) else "run id, folder or checkpoint file"
    hint = nearest(value, folders) or _newest_hint(outputs)
    raise ConfigError(f"{key}={value}: there is no such {kind} under {outputs.absolute()}{hint}")


def _folders(outputs: Path) -> list[RunFolder]:
    """Return all run folders below `outputs`, those of sweeps too, newest first."""
    records = [Path(top) / "run.json" for top, _, files in os.walk(outputs) if "run.json" in files]
    return [RunFolder(record.parent) for record in sorted(records, key=lambda r: r.stat().st_mtime, reverse=True)]


def _newest_hint(outputs: Path) -> str:
    newest = _folders(outputs)[:1]
    return f"; the newest run here is {newest[0].path}" if newest else ""
