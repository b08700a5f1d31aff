"""Name the formats of an export, their files and the packages that they need. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ppolab.errors import ConfigError

FILE_NAMES = {"onnx": "policy.onnx", "torch_export": "policy.pt2", "mlflow": "policy.onnx"}
"""What an export is called in the folder `export` of its run, by format."""
FILE_FORMATS = ("onnx", "torch_export")
"""Formats that are a file by itself; `mlflow` is a registered model."""
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "mlflow": ("onnx", "onnxscript", "onnxruntime")}


def check_packages(key: str, export_format: str) -> None:
    """Raise ConfigError unless the packages of a format are installed.

    Args:
        key: the setting that asks for it, with its value; begins the message.
    """
    missing = [name for name in NEEDED.get(export_format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{key}: {' and '.join(missing)} {verb} not installed; pip install 'ppolab[onnx]'")


def default_path(run: Path, export_format: str) -> Path:
    """Return where an export of the run in the folder `run` goes unless another path is given."""
    return run / "export" / FILE_NAMES[export_format]
