"""Remember what a run was computed with, and tell in which of it two runs differ. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import ppolab
from ppolab.records.run_folder import write_whole

DISTRIBUTIONS = (
    "torch", "pytorch-lightning", "gymnasium", "envpool", "mujoco", "mujoco-warp", "warp-lang", "mjlab", "mlflow",
    "numpy",
)  # fmt: skip
"""Packages that a run uses, as their index calls them."""
CPU_INFO = Path("/proc/cpuinfo")


@cache
def package_versions() -> Mapping[str, str]:
    """Return the version of ppolab, of Python, and of each of `DISTRIBUTIONS` that is installed."""
    found = {"ppolab": ppolab.__version__, "python": platform.python_version()}
    for distribution in DISTRIBUTIONS:
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Return what of this machine may change the last digits of a number: system, architecture and processor."""
    return {"system": platform.system(), "machine": platform.machine(), "processor": _processor()}


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def write_versions(path: Path, versions: Mapping[str, str]) -> None:
    """Write versions.json; what is there already stays, since it is of the run's beginning."""
    if not path.exists():
        write_whole(path, json.dumps(dict(versions), indent=1) + "\n")


def read_versions(path: Path) -> dict[str, str] | None:
    """Return what versions.json holds; None where it is missing, as in runs of 0.1, or cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else None


def differing_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return each entry in which the two differ, as "torch 2.12.0 -> 2.13.0"."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} {before.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in names
        if before.get(name) != now.get(name)
    ]
