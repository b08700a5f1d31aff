"""Which algorithms there are, and which settings each reads and needs: what their files in conf/algorithm/ say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ppolab.errors import ConfigError, nearest, spelled
from ppolab.folders import algorithm_folder, config_folder

ABOUT = ("name", "ignores", "needs", "optional", "metrics")
"""What an algorithm's file says about the algorithm; all else in it is a setting."""

KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}
"""By the type of a setting's default: the types that a value may have, and what they are called."""


def algorithm_names() -> tuple[str, ...]:
    """The modules of `ppolab.algorithms`."""
    files = Path(__file__).with_name("algorithms").glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


@cache
def defaults_of(name: str) -> Mapping[str, Any]:
    """What the file of the algorithm `name` sets below `algorithm`; nothing if there is no such file."""
    file = algorithm_folder() / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    assert isinstance(content, dict)
    defaults: Mapping[str, Any] = content.get("algorithm", {})
    return defaults


def metrics_of(name: str) -> tuple[str, ...]:
    """The metrics that no other algorithm has."""
    return tuple(defaults_of(name).get("metrics", ()))


def numbers_as_their_defaults(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an algorithm, whole numbers as fractional ones where the default is one: 1 means 1.0."""
    defaults = defaults_of(str(algorithm.get("name")))
    return {
        key: float(value) if type(value) is int and isinstance(defaults.get(key), float) else value
        for key, value in algorithm.items()
    }


def algorithms_with(setting: str) -> list[str]:
    """The names of those that have it."""
    return [name for name in algorithm_names() if setting in defaults_of(name)]


def check_algorithm(algorithm: Mapping[str, Any], value_of: Callable[[str], Any]) -> None:
    """Raise ConfigError for a setting that the algorithm does not have, one of another type than its default, or
    another group's that it cannot work with.

    Args:
        value_of: any setting of the configuration by its dotted name.
    """
    name = algorithm.get("name")
    defaults = defaults_of(str(name))
    for key, value in algorithm.items() if defaults else ():
        if key not in (*defaults, *ABOUT):
            raise ConfigError(f"algorithm.{key}: algorithm={name} has no such setting{nearest(key, defaults)}")
        types, words = KINDS.get(type(defaults.get(key)), ((object,), ""))
        missing = value is None and key in defaults.get("optional", ())
        if not (missing or isinstance(value, types)) or (isinstance(value, bool) and bool not in types and words):
            raise ConfigError(f"algorithm.{key}={spelled(value)}: must be {words}")
    for need in algorithm.get("needs") or ():
        key, _, wanted = need.partition("=")
        if str(value_of(key)) != wanted:
            raise ConfigError(f"{key}={spelled(value_of(key))}: algorithm={name} cannot work with it; set {need}")
    _check_value_epochs(algorithm.get("value_epochs"), value_of("model.trunk"))
    _check_penalty(algorithm.get("d_targ"), value_of("target_kl"))


def _check_value_epochs(value_epochs: Any, trunk: Any) -> None:
    if isinstance(value_epochs, float):
        raise ConfigError(f"algorithm.value_epochs={value_epochs}: must be a whole number, such as {int(value_epochs)}")
    if value_epochs is not None and trunk == "shared":
        raise ConfigError(
            f"algorithm.value_epochs={value_epochs}: the value function cannot learn alone; set model.trunk=separate"
        )


def _check_penalty(d_targ: float | None, target_kl: float | None) -> None:
    if d_targ is not None and target_kl is not None and d_targ > target_kl:
        raise ConfigError(
            f"algorithm.d_targ={d_targ:g}: must not exceed target_kl={target_kl:g}; KL early stopping would hold "
            "the KL below what beta aims at, so that beta could only fall; set target_kl=null"
        )


def refuse_unread(algorithm: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Raise ConfigError for the first setting that somebody gave although the algorithm does not read it, or that
    would make it out to be another than it is.

    Args:
        given: what the command line or a search space sets, by dotted name; Hydra's + before it means nothing here.
    """
    for name, value in given.items():
        key = name.lstrip("+")
        _refuse_other_facts(str(algorithm.get("name")), key, value)
        if reads(algorithm, key):
            continue
        raise ConfigError(
            f"{key}={spelled(value)}: algorithm={algorithm.get('name')} does not read {key}; leave it out, or choose "
            "an algorithm that reads it, such as algorithm=ppo_clip"
        )


def _refuse_other_facts(name: str, key: str, value: object) -> None:
    group, _, fact = key.partition(".")
    shipped = defaults_of(name).get(fact)
    if group == "algorithm" and fact in ABOUT and value not in (shipped, spelled(shipped)):
        raise ConfigError(
            f"{key}={spelled(value)}: tells what algorithm={name} is, and is no setting; leave it out, or write an "
            "algorithm of your own (README, Algorithms)"
        )


def unread(algorithm: Mapping[str, Any], values: Mapping[str, object]) -> list[str]:
    """What `values` have besides the shipped defaults although the algorithm does not read it, as it is typed."""
    shipped = OmegaConf.load(config_folder("conf") / "config.yaml")
    return [
        f"{key}={spelled(values[key])}"
        for key in algorithm.get("ignores") or ()
        if key in values and values[key] != OmegaConf.select(shipped, key)
    ]


def reads(algorithm: Mapping[str, Any], key: str) -> bool:
    """Whether a setting matters to the algorithm."""
    ignored: Iterable[str] = algorithm.get("ignores") or ()
    return not any(key == name or key.startswith(f"{name}.") for name in ignored)
