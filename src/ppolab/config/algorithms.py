"""Know the algorithms, and which settings each has, reads and needs, from their files in conf/algorithm/."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ppolab.config.files import config_folder, option_defaults
from ppolab.config.rules import KIND_WORDS, SCHEDULES, Range, is_a
from ppolab.config.setting import number_problem
from ppolab.errors import ConfigError, nearest, spelled

SWITCHES = {"lr_schedule": "anneal_lr"}
"""By the setting that names a schedule, the one that says linear or constant where that is null."""

RECORDED = ("name", "ignores", "needs", "optional", "metrics")
"""Facts about an algorithm that are recorded with a run, among its settings."""
FILE_ONLY = ("ranges", "conditions", "schedules")
"""Facts that stand in the algorithm's file only."""
ABOUT = (*RECORDED, *FILE_ONLY)
"""What an algorithm's file says about the algorithm; all else in it is a setting. conf/algorithm/ppo_clip.yaml and
ppo_penalty.yaml explain each."""


def algorithm_names() -> tuple[str, ...]:
    """Return the modules of `ppolab.learning.algorithms`."""
    files = (Path(__file__).parents[1] / "learning" / "algorithms").glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


_OWN: dict[str, Mapping[str, Any]] = {}
"""What is known about algorithms of the user, by MODULE:NAME."""


def is_own(name: str) -> bool:
    """Return whether `name` is that of an algorithm of the user, MODULE:NAME."""
    return ":" in name


def describe_own(name: str, described: Mapping[str, Any]) -> None:
    """Let `about` know an algorithm of the user. Processes that run what was checked elsewhere do without."""
    _OWN[name] = described
    ranges_of.cache_clear()


def own_names() -> tuple[str, ...]:
    """Return the algorithms of the user that `describe_own` was told of."""
    return tuple(_OWN)


def about(name: str) -> Mapping[str, Any]:
    """Return what the file of the algorithm `name` has below `algorithm`: facts and settings.

    Nothing if there is no such file; of an algorithm of the user, what `describe_own` was told.
    """
    if is_own(name):
        return _OWN.get(name, {})
    found: Mapping[str, Any] = option_defaults("algorithm", name).get("algorithm", {})
    return found


def defaults_of(name: str) -> dict[str, Any]:
    """Return the settings of the algorithm `name`, with their defaults."""
    return {key: value for key, value in about(name).items() if key not in ABOUT}


def metrics_of(name: str) -> tuple[str, ...]:
    """Return the metrics that the algorithm has besides those of every run."""
    return tuple(about(name).get("metrics", ()))


def schedule_metrics_of(name: str) -> tuple[str, ...]:
    """Return the metrics that a run of the algorithm has once its settings name schedules."""
    return tuple(facts["metric"] for facts in about(name).get("schedules", {}).values())


@cache
def ranges_of(name: str) -> Mapping[str, Range]:
    """Return the range of each of the algorithm's numbers that has one.

    Raises:
        ConfigError: the file names another setting, or a range that cannot be read.
    """
    found = {}
    for key, text in about(name).get("ranges", {}).items():
        if key not in defaults_of(name):
            raise ConfigError(f"{_place(name)}: ranges.{key}: is no setting of it{nearest(key, defaults_of(name))}")
        try:
            found[key] = Range(str(text))
        except ValueError as error:
            raise ConfigError(f"{_place(name)}: ranges.{key}: {error}") from error
    return found


def _place(name: str) -> str:
    return f"algorithm={name}" if is_own(name) else f"conf/algorithm/{name}.yaml"


def algorithms_with(setting: str) -> list[str]:
    """Return the names of the algorithms that have a setting of this name."""
    return [name for name in algorithm_names() if setting in defaults_of(name)]


# --- what a configuration holds ----------------------------------------------------------------------------------


def numbers_as_their_defaults(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an algorithm's settings, whole numbers as fractional ones where the default is one: 1 means 1.0."""
    defaults = about(str(algorithm.get("name")))
    return {
        key: float(value) if type(value) is int and isinstance(defaults.get(key), float) else value
        for key, value in algorithm.items()
    }


def without_file_only(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `algorithm` is a run's to keep: its settings, and the facts that are recorded."""
    return {key: value for key, value in algorithm.items() if key not in FILE_ONLY}


def with_facts_of_file(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored `algorithm`, with the facts that its file states today."""
    shipped = about(str(algorithm.get("name")))
    facts = {key: shipped[key] for key in RECORDED if key in shipped}
    return {key: value for key, value in algorithm.items() if key not in ABOUT or not shipped} | facts


def check_algorithm(algorithm: Mapping[str, Any], value_of: Callable[[str], Any]) -> None:
    """Raise ConfigError for a setting of an algorithm that breaks a rule of its file.

    It may be no setting of the algorithm, of another type than its default, out of its range, or not go with another
    setting.

    Args:
        value_of: any setting of the configuration by its dotted name.
    """
    name = str(algorithm.get("name"))
    if not is_own(name) and name not in algorithm_names():
        names = algorithm_names()
        raise ConfigError(f"algorithm.name={name}: must be one of {', '.join(names)}{nearest(name, names)}")
    refuse_other_facts(algorithm)
    for key, value in algorithm.items():
        if key not in ABOUT and about(name):
            _check_setting(name, key, value)
    for need in about(name).get("needs", ()):
        key, _, wanted = need.partition("=")
        if str(value_of(key)) != wanted:
            raise ConfigError(f"{key}={spelled(value_of(key))}: algorithm={name} cannot work with it; set {need}")
    for condition in about(name).get("conditions", ()):
        _check_condition(condition, value_of)


def _check_setting(name: str, key: str, value: Any) -> None:
    defaults = defaults_of(name)
    if key not in defaults:
        raise ConfigError(f"algorithm.{key}: algorithm={name} has no such setting{nearest(key, defaults)}")
    default = defaults[key]
    if value is not None and key in about(name).get("schedules", {}):
        check_schedule_name(f"algorithm.{key}", value)
        return
    if value is None and (default is None or key in about(name).get("optional", ())):
        return
    kind = type(default)
    problem = f"must be {KIND_WORDS[kind]}" if kind in KIND_WORDS and not is_a(value, kind) else None
    problem = problem or number_problem(value, ranges_of(name).get(key))
    if problem:
        raise ConfigError(f"algorithm.{key}={spelled(value)}: {problem}")


def _check_condition(condition: Mapping[str, str], value_of: Callable[[str], Any]) -> None:
    """One of `conditions`: what must hold of other settings once `setting` is not null."""
    key = f"algorithm.{condition['setting']}"
    value = value_of(key)
    if value is None:
        return
    reason = condition["reason"]
    other, _, wanted = condition.get("needs", "").partition("=")
    if other and str(value_of(other)) != wanted:
        raise ConfigError(f"{key}={spelled(value)}: {reason}; set {other}={wanted}")
    limit = value_of(condition["at_most"]) if "at_most" in condition else None
    if limit is not None and value > limit:
        raise ConfigError(f"{key}={value:g}: must not exceed {condition['at_most']}={limit:g}; {reason}")


def refuse_other_facts(algorithm: Mapping[str, Any]) -> None:
    """Raise ConfigError where `algorithm` would make its algorithm out to be another than its file says."""
    name = str(algorithm.get("name"))
    for fact in ABOUT:
        if about(name) and fact in algorithm and algorithm[fact] != about(name).get(fact):
            raise _no_setting(name, fact, algorithm[fact])


def _no_setting(name: str, fact: str, value: object) -> ConfigError:
    return ConfigError(
        f"algorithm.{fact}={spelled(value)}: tells what algorithm={name} is, and is no setting; leave it out, or "
        "write an algorithm of your own (docs/algorithms.md)"
    )


# --- settings that it does not read ------------------------------------------------------------------------------


def refuse_unread(algorithm: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Raise ConfigError for the first setting that somebody gave although the algorithm does not read it, that would
    make it out to be another than it is, or that contradicts another one.

    Args:
        given: what the command line or a search space sets, by dotted name; Hydra's + before it means nothing here.
    """
    name = str(algorithm.get("name"))
    _refuse_two_schedules(name, {key.lstrip("+"): spelled(value) for key, value in given.items()})
    for written, value in given.items():
        key = written.lstrip("+")
        group, _, fact = key.partition(".")
        shipped = about(name).get(fact)
        if group == "algorithm" and fact in ABOUT and about(name) and value not in (shipped, spelled(shipped)):
            raise _no_setting(name, fact, value)
        if not reads(algorithm, key):
            raise ConfigError(
                f"{key}={spelled(value)}: algorithm={name} does not read {key}; leave it out, or choose an algorithm "
                "that reads it, such as algorithm=ppo_clip"
            )


def check_schedule_name(key: str, name: object) -> None:
    """Raise ConfigError unless `name` is a shipped schedule, or may be one of the user's own."""
    if name not in SCHEDULES and not (isinstance(name, str) and ":" in name):
        raise ConfigError(
            f"{key}={spelled(name)}: must be {', '.join(SCHEDULES)}, or a function of your own, such as "
            f"{key}=my_package:my_schedule{nearest(str(name), SCHEDULES)}"
        )


def scheduled_metrics(algorithm: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of the settings that a run's algorithm schedules."""
    schedules = about(str(algorithm.get("name"))).get("schedules", {})
    return tuple(facts["metric"] for key, facts in schedules.items() if algorithm.get(key) is not None)


def _refuse_two_schedules(name: str, given: Mapping[str, str]) -> None:
    """Both may be there, since a switch always has a value; but who gives both must mean the same."""
    own = about(name).get("schedules", {})
    switches = SWITCHES | {f"algorithm.{key}": f"algorithm.{facts['switch']}" for key, facts in own.items()}
    for key, switch in switches.items():
        schedule, switched = given.get(key, "null"), given.get(switch)
        if schedule == "null" or switched not in ("true", "false"):
            continue
        meaning = "linear" if switched == "true" else "constant"
        if (meaning == "linear") != (schedule == "linear"):
            raise ConfigError(
                f"{key}={schedule}: contradicts {switch}={switched}, which means {key}={meaning}; leave one of them out"
            )


def unread(algorithm: Mapping[str, Any], values: Mapping[str, object]) -> list[str]:
    """Return what `values` have besides the shipped defaults although the algorithm does not read it, as typed."""
    shipped = OmegaConf.load(config_folder("conf") / "config.yaml")
    return [
        f"{key}={spelled(values[key])}"
        for key in algorithm.get("ignores") or ()
        if key in values and values[key] != OmegaConf.select(shipped, key)
    ]


def reads(algorithm: Mapping[str, Any], key: str) -> bool:
    """Return whether a setting matters to the algorithm."""
    ignored: Iterable[str] = algorithm.get("ignores") or ()
    return not any(key == name or key.startswith(f"{name}.") for name in ignored)
