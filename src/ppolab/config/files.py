"""Find and read the files of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

COMMENTED = re.compile(r"\s*(?:- (?P<item>[^\s#]+)|(?P<key>\w+):.*?) # (?P<words>.*)")


def config_folder(name: str) -> Path:
    """Return the folder `conf` or `sweeps`: inside the installed package, or at the top of a clone."""
    packaged = Path(__file__).parents[1] / name
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / name


def user_folder(name: str) -> Path | None:
    """Return the folder `conf` or `sweeps` where the command is typed; None where there is none, or it is ppolab's."""
    folder = Path.cwd() / name
    return folder if folder.is_dir() and not folder.samefile(config_folder(name)) else None


def folders(name: str) -> tuple[Path, ...]:
    """Return the folders in which the files of `conf` or `sweeps` are looked for: ppolab's own first."""
    own, users = config_folder(name), user_folder(name)
    return (own,) if users is None else (own, users)


def option_groups(folder: str) -> tuple[str, ...]:
    """Return the groups whose options lie in `conf` or `sweeps`, without Hydra's own."""
    groups = (path for path in config_folder(folder).iterdir() if path.is_dir())
    return tuple(sorted(path.name for path in groups if path.name != "hydra"))


def options_of(group: str) -> tuple[str, ...]:
    """Return the options of a group in conf/, those of the user too."""
    return tuple(sorted({path.stem for folder in folders("conf") for path in (folder / group).glob("*.yaml")}))


def option_defaults(group: str, name: str) -> Mapping[str, Any]:
    """Return what the option `name` of a group in conf/ sets; nothing if there is no such file."""
    return _content(option_file(group, name))


@cache
def _content(file: Path) -> Mapping[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def option_file(group: str, name: str, folder: str = "conf") -> Path:
    """Return where the option `name` of a group is, or would be."""
    files = [place / group / f"{name}.yaml" for place in folders(folder)]
    return next((file for file in files if file.is_file()), files[0])


def words_of(file: Path) -> str:
    """Return the first comment of a file that stands on a line of its own; empty without one before the first key."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return ""
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def comments_in(file: Path) -> dict[str, str]:
    """Return what stands behind a # beside each key or item of a list, by the key without its group."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        match = COMMENTED.match(line)
        if match:
            found[match["item"] or match["key"]] = match["words"].strip()
    return found
