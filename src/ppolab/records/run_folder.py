"""Name the files in a run's folder, and find the folder again. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ppolab.errors import ConfigError, TrackingError, nearest

OUTPUTS = Path("outputs")
CHECKPOINT_SUFFIX = ".ckpt"
GRID_RECORD = "grid.json"
"""In the folder of a grid of runs: the id of its own run in MLflow."""
RUN_ID = re.compile(r"[0-9a-f]{32}")
SHORT_ID = re.compile(r"[0-9a-f]{6,31}")

log = logging.getLogger(__name__)


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
        """The file with the run's MLflow id, store and name, and whether it is finished."""
        return self.path / "run.json"

    @property
    def versions(self) -> Path:
        """The versions of what the run was begun with."""
        return self.path / "versions.json"

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

    def write_record(
        self, run_id: str | None, tracking_uri: str, *, finished: bool = False, name: str | None = None
    ) -> None:
        """Remember under which id and name the tracking store knows this run, and whether anything is left to do."""
        record: dict[str, object] = {"run_id": run_id, "tracking_uri": tracking_uri, "finished": finished}
        if name is not None:
            record["name"] = name
        text = json.dumps(record) + "\n"
        try:
            write_whole(self.record, text)
        except OSError:  # on a full disk, what is there can still be written over
            with self.record.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()

    def note_run_id(self, run_id: str) -> None:
        """Add the id to what a run that has ended wrote down without it, since the store had not answered yet."""
        recorded = self._recorded()
        if recorded and not recorded.get("run_id"):
            with contextlib.suppress(OSError):
                write_whole(self.record, json.dumps({**recorded, "run_id": run_id}) + "\n")

    def run_id(self) -> str | None:
        """Return the MLflow run id, or None for a run without one."""
        value = self._recorded().get("run_id")
        return str(value) if value else None

    def tracking_uri(self) -> str | None:
        """Return the store that has the run, without a password; None for a run without one."""
        value = self._recorded().get("tracking_uri")
        return str(value) if value else None

    def name(self) -> str | None:
        """Return the run's name in MLflow; of a run that did not write it down, what it is called by default."""
        value = self._recorded().get("name")
        return str(value) if value else _default_name(self.config)

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
        with locked(self.path, "another process is training this run"):
            yield


@contextmanager
def locked(folder: Path, otherwise: str, name: str = ".lock") -> Iterator[None]:
    """Keep other processes from working in `folder`; the system lets go of it when this one ends, however it does.

    Args:
        name: of the file that is locked.

    Raises:
        ConfigError: another process works there; the message says `otherwise`.
    """
    lock = FileLock(folder / name, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder}: {otherwise}; wait for its end, or stop it") from None
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
    """Return the run that `value` names.

    It is a run folder, a checkpoint file, an MLflow run id or its first six digits or more, the name of a run in MLflow
    (the newest one of that name), or a model of MLflow's registry, `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

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
    if value.startswith(REGISTERED):
        folder = registered_run_folder(key, value, outputs)
    else:
        folder = RunFolder(path) if path.is_dir() else _folder_named(key, value, outputs)
    if not folder.config.is_file():
        _refuse_grid(key, value, outputs)
        raise ConfigError(f"{key}={value}: is not a run folder; it has no config.yaml{_newest_hint(outputs)}")
    for name in (checkpoint, "last"):
        if folder.checkpoint(name).is_file():
            return FoundRun(folder, folder.checkpoint(name))
    raise ConfigError(
        f"{key}={value}: {folder.path} has no checkpoint; the run ended before its first one was written, so train it "
        "again"
    )


def unfinished_run(is_wanted: Callable[[RunFolder], bool], outputs: Path = OUTPUTS) -> RunFolder | None:
    """Return the newest run that has a checkpoint, is not finished, is not being trained, and is wanted."""
    for folder in _folders(outputs):
        if not folder.is_finished and folder.checkpoint("last").is_file() and is_wanted(folder):
            with contextlib.suppress(ConfigError), folder.held():
                return folder
    return None


def _folder_named(key: str, value: str, outputs: Path) -> RunFolder:
    """Return the folder of the run with this id, of the newest with this name, or of the one whose id begins so."""
    folders = _folders(outputs)
    by_id = {run_id: folder for folder in reversed(folders) if (run_id := folder.run_id())}
    if value in by_id:
        return by_id[value]
    is_id, by_name = RUN_ID.fullmatch(value), dict[str, list[RunFolder]]()
    if not is_id:
        for folder in folders:
            by_name.setdefault(folder.name() or "", []).append(folder)
        if found := by_name.get(value, []):
            if len(found) > 1:
                log.info("%s=%s: %d runs have this name; this is the newest, %s", key, value, len(found), found[0].path)
            return found[0]
    matching = [run_id for run_id in by_id if run_id.startswith(value)] if SHORT_ID.fullmatch(value) else []
    if len(matching) == 1:
        return by_id[matching[0]]
    if matching:
        raise ConfigError(f"{key}={value}: the ids of {len(matching)} runs begin so: {', '.join(matching)}; add digits")
    _refuse_grid(key, value, outputs)
    kind = "run id" if is_id else "run id, run name, folder or checkpoint file"
    hint = nearest(value, [*by_id, *by_name]) or _newest_hint(outputs) or "; name a run elsewhere by its folder"
    raise ConfigError(f"{key}={value}: there is no such {kind} under {outputs.absolute()}{hint}")


def _refuse_grid(key: str, value: str, outputs: Path) -> None:
    """Raise ConfigError if `value` is the folder, the name or the MLflow id of a grid of runs."""
    is_id = RUN_ID.fullmatch(value) or SHORT_ID.fullmatch(value)
    grids = {record.parent: record for record in (outputs / "grids").glob(f"*/{GRID_RECORD}")}
    named = [
        grid for grid, record in grids.items() if grid.name == value or (is_id and f'"{value}' in record.read_text())
    ]
    if (Path(value) / GRID_RECORD).is_file():
        named.append(Path(value))
    if named:
        runs = [folder.path for folder in _folders(named[0])]
        example = f", such as {key}={min(runs)}" if runs else ""
        raise ConfigError(f"{key}={value}: is a grid of runs, not a run; name one of them{example}")


def _folders(outputs: Path) -> list[RunFolder]:
    """Return all run folders below `outputs`, those of sweeps too, newest first."""
    records = [Path(top) / "run.json" for top, _, files in os.walk(outputs) if "run.json" in files]
    return [RunFolder(record.parent) for record in sorted(records, key=lambda r: r.stat().st_mtime, reverse=True)]


def _default_name(config: Path) -> str | None:
    """Return what a run is called whose configuration is at `config`; None if that cannot be read."""
    import yaml

    try:
        content = yaml.safe_load(config.read_text())
        return str(content["logger"]["run_name"] or f"{content['env']['id']}-seed{content['seed']}")
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _newest_hint(outputs: Path) -> str:
    newest = _folders(outputs)[:1]
    return f"; the newest run here is {newest[0].path}" if newest else ""


# --- runs of a tracking store ----------------------------------------------------------------------------------------

REGISTERED = "models:/"
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


def registered_run_folder(key: str, value: str, outputs: Path) -> RunFolder:
    """Return the folder of the run that a model of MLflow's registry comes from; it is downloaded if it is not here.

    Raises:
        ConfigError: there is no such registry, model or version, or the run has no checkpoint.
    """
    from ppolab.records.tracking import registered_run, resolve_tracking_uri

    model = MODEL.fullmatch(value)
    if model is None:
        raise ConfigError(f"{key}={value}: is no model of a registry; write models:/NAME/VERSION or models:/NAME@ALIAS")
    uri = resolve_tracking_uri(None, outputs, "MLFLOW_TRACKING_URI")
    try:
        run_id = registered_run(uri, model["name"], model["version"], model["alias"])
        here = [folder for folder in _folders(outputs) if folder.run_id() == run_id]
        return here[0] if here else download_run(uri, run_id, outputs / "downloaded" / run_id)
    except TrackingError as error:
        raise ConfigError(
            f"{key}={value}: {error}; name another, or the store that has it with MLFLOW_TRACKING_URI"
        ) from error


def download_run(uri: str, run_id: str, path: Path) -> RunFolder:
    """Return a folder at `path` with the configuration and the checkpoints of a run that is not here.

    Raises:
        TrackingError: the store does not answer, or does not hold the run and its checkpoints.
    """
    from ppolab.records.tracking import find_run_artifacts, redact

    folder = RunFolder(path)
    find_run_artifacts(uri, run_id, folder.path)
    if not folder.config.is_file():  # a store of an earlier version may hold the checkpoint alone
        from ppolab.records.checkpoint import load_checkpoint

        folder.config.write_text(load_checkpoint(folder.checkpoint("last")).config)
    folder.write_record(run_id, redact(uri))
    return folder
