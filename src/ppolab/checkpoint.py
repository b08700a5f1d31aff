"""What a resume needs, in one file that is written atomically and read without running code."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ppolab.errors import CheckpointError

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A run's state between two iterations; tensors and plain values only.

    Attributes:
        config: the configuration as YAML.
        module: `PPOModule.state`: policy with normalisers, optimizer, counters, random states.
        best_return: the highest eval/return so far. run_id: the MLflow run.
    """

    config: str
    module: dict[str, Any]
    best_return: float | None
    run_id: str | None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write to a temporary name, flush to disk, rename: a reader finds the old file or the new one, never half of one.

    Raises:
        CheckpointError: the file cannot be written (disk full, folder gone); an older file at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **vars(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: the checkpoint cannot be written: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `weights_only` refuses everything that could run code.

    Raises:
        CheckpointError: the file is damaged, foreign, or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: is damaged or not a ppolab checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: is not a ppolab checkpoint of format {FORMAT}")
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{path}: does not hold what a ppolab checkpoint of format {FORMAT} holds") from error
