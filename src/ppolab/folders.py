"""Where the files of the configuration are."""

from __future__ import annotations

from pathlib import Path


def config_folder(name: str) -> Path:
    """The folder `conf` or `sweeps`: inside the installed package, or at the top of a clone."""
    packaged = Path(__file__).parent / name
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / name


def algorithm_folder() -> Path:
    """What the files of algorithms are in."""
    return config_folder("conf") / "algorithm"
