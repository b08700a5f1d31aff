"""Which algorithms there are, and which settings each reads and needs: what their files in conf/algorithm/ say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ppolab.errors import ConfigError, nearest

ABOUT = ("name", "ignores", "needs", "optional")
"""What an algorithm's file says about the algorithm; all else in it is a setting."""

KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}
"""By the type of a setting's default: the types that a value may have, and what they are called."""


def algorithm_names() -> tuple[str, ...]:
    """The modules of `ppolab.algorithms`."""
    files = Path(__file__).with_name("algorithms").glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


@cache
def defaults_of(folder: Path, name: str) -> Mapping[str, Any]:
    """What the file of the algorithm `name` in `folder` sets below `algorithm`; nothing if there is no such file."""
    file = folder / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    assert isinstance(content, dict)
    defaults: Mapping[str, Any] = content.get("algorithm", {})
    return defaults


def algorithms_with(folder: Path, setting: str) -> list[str]:
    """The names of those that have it."""
    return [name for name in algorithm_names() if setting in defaults_of(folder, name)]


def check_algorithm(algorithm: Mapping[str, Any], value_of: Callable[[str], Any], folder: Path) -> None:
    """Raise ConfigError for a setting that the algorithm does not have, one of another type than its default, or
    another group's that it cannot work with.

    Args:
        value_of: any setting of the configuration by its dotted name.
    """
    name = algorithm.get("name")
    defaults = defaults_of(folder, str(name))
    for key, value in algorithm.items() if defaults else ():
        if key not in (*defaults, *ABOUT):
            raise ConfigError(f"algorithm.{key}: algorithm={name} has no such setting{nearest(key, defaults)}")
        types, words = KINDS.get(type(defaults.get(key)), ((object,), ""))
        missing = value is None and key in defaults.get("optional", ())
        if not (missing or isinstance(value, types)) or (isinstance(value, bool) and bool not in types and words):
            raise ConfigError(f"algorithm.{key}={value}: must be {words}")
    for need in algorithm.get("needs") or ():
        key, _, wanted = need.partition("=")
        if str(value_of(key)) != wanted:
            raise ConfigError(f"{key}={value_of(key)}: algorithm={name} cannot work with it; set {need}")


def refuse_unread(algorithm: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Raise ConfigError for the first setting that somebody gave although the algorithm does not read it.

    Args:
        given: what the command line or a search space sets, by dotted name; Hydra's + before it means nothing here.
    """
    for name, value in given.items():
        key = name.lstrip("+")
        if reads(algorithm, key):
            continue
        raise ConfigError(
            f"{key}={value}: algorithm={algorithm.get('name')} does not read {key}; leave it out, or choose an "
            "algorithm that reads it, such as algorithm=ppo_clip"
        )


def reads(algorithm: Mapping[str, Any], key: str) -> bool:
    """Whether a setting matters to the algorithm."""
    ignored: Iterable[str] = algorithm.get("ignores") or ()
    return not any(key == name or key.startswith(f"{name}.") for name in ignored)
