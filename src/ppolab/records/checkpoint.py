"""Save and load what a resume needs: one file, written atomically and read without running code."""

from __future__ import annotations

import contextlib
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppolab.errors import CheckpointError

log = logging.getLogger(__name__)

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Hold a run's state between two iterations; tensors and plain values only.

    Attributes:
        config: the configuration as YAML.
        module: `OnPolicyModule.state`: policy with normalisers, optimizer, counters, random states.
        best_return: the highest eval/return so far. run_id: the MLflow run.
    """

    config: str
    module: dict[str, Any]
    best_return: float | None
    run_id: str | None


def save_checkpoint(checkpoint: Checkpoint, path: Path, keep: int = 1) -> None:
    """Write to a temporary name, flush to disk, rename: a reader finds the old file or the new one, never half of one.

    Args:
        keep: how many files there may be: this one, and `earlier` ones.

    Raises:
        CheckpointError: the file cannot be written (disk full, folder gone); an older file at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **_storable(vars(checkpoint))}, file)
            file.flush()
            os.fsync(file.fileno())
        _step_back(path, keep)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(f"{path}: the checkpoint cannot be written: {_reason(error)}") from error
    finally:  # also what a process left that was killed here
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Return what the system said; torch raises an error of its own after it."""
    if isinstance(error.__context__, OSError):
        error = error.__context__
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]


def earlier(path: Path, age: int) -> Path:
    """Return where the checkpoint lies that was at `path` before the last `age` ones."""
    return path.with_name(f"{path.stem}-{age}{path.suffix}") if age else path


def _step_back(path: Path, keep: int) -> None:
    """Rename what is at `path` and its predecessors, but let `path` itself stand: there is always one."""
    for age in range(keep - 1, 0, -1):
        newer, older = earlier(path, age - 1), earlier(path, age)
        if newer.is_file():
            older.unlink(missing_ok=True)
            os.link(newer, older) if age == 1 else newer.rename(older)


def load_newest(path: Path) -> Checkpoint:
    """Load the checkpoint at `path`, or the newest of its predecessors that can be read, which a warning then names.

    Raises:
        CheckpointError: none can be read; of the one at `path`.
    """
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        age = 1
        while earlier(path, age).is_file():
            with contextlib.suppress(CheckpointError):
                found = load_checkpoint(earlier(path, age))
                log.warning("%s; going on from the one before it, %s", error, earlier(path, age))
                return found
            age += 1
        raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `weights_only` refuses everything that could run code.

    Raises:
        CheckpointError: the file is damaged, foreign, or of another format.
    """
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what a few wrong bytes make of a pickle
        raise CheckpointError(f"{path}: is damaged or not a ppolab checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: is not a ppolab checkpoint of format {FORMAT}")
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        checkpoint = Checkpoint(**_usable(content))
        if isinstance(checkpoint.module["steps"], int):
            return checkpoint
    raise CheckpointError(f"{path}: does not hold what a ppolab checkpoint of format {FORMAT} holds")


def _check_sums(path: Path) -> None:
    """Raise BadZipFile where a checksum is wrong: torch does not read them, and would load a wrong parameter."""
    with zipfile.ZipFile(path) as file:
        wrong = file.testzip()
    if wrong is not None:
        raise zipfile.BadZipFile(wrong)


ARRAY = "ndarray"


def _storable(value: Any) -> Any:
    """Return `value` with tensors in place of NumPy arrays: torch reads those without running code."""
    if isinstance(value, np.ndarray):
        return {ARRAY: torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)}
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_storable(item) for item in value)
    return value


def _usable(value: Any) -> Any:
    """Return what `_storable` was given."""
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return value[ARRAY].numpy()
        return {key: _usable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_usable(item) for item in value)
    return value
