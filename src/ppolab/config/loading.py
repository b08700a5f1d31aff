"""Turn what Hydra composed, or a stored file, into a checked `Config`, and back into text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ppolab.config.algorithms import (
    numbers_as_their_defaults,
    refuse_other_facts,
    with_facts_of_file,
    without_file_only,
)
from ppolab.config.checks import check
from ppolab.config.files import option_groups
from ppolab.config.rules import KIND_WORDS
from ppolab.config.schema import CONFIG_FILE, Config, flattened, known_keys
from ppolab.config.setting import settings_of
from ppolab.errors import ConfigError, nearest
from ppolab.redaction import redacted


def from_hydra(node: DictConfig) -> Config:
    """Return a checked Config, which holds a number for `eval_interval=null`: a resumed run keeps it.

    Raises:
        ConfigError: a value has the wrong type, breaks a rule, or does not go with another.
    """
    config = typed(node)
    check(config)
    return replace(config, eval_interval=config.steps_between_evaluations)


def typed(node: DictConfig) -> Config:
    """Return a Config of known keys and right types, whose values are not checked yet.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or a fact about the algorithm was changed.
    """
    _refuse_unknown(node)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), node))
    except OmegaConfBaseException as error:
        raise ConfigError(type_problem(error)) from error
    assert isinstance(config, Config)
    refuse_other_facts(config.algorithm)
    return replace(config, algorithm=numbers_as_their_defaults(without_file_only(config.algorithm)))


def _refuse_unknown(node: DictConfig) -> None:
    """`+key=value` can append what no code reads; a mistyped key must not pass that way."""
    known = set(known_keys(Config))
    for key in flattened(OmegaConf.to_container(node)):
        if key not in known and not key.startswith(FREE):
            raise ConfigError(f"{key}: no such setting{nearest(key, known)}")


def type_problem(error: OmegaConfBaseException) -> str:
    """Return one line about a key that the schema does not have, a value of the wrong type, or a missing one."""
    key = str(getattr(error, "full_key", None) or "configuration")
    reason = str(error).splitlines()[0]
    if re.search(r"Key '.*' not in '\w+'", reason):
        return f"{key}: no such setting{_unknown_hint(key)}"
    if reason.endswith("is not Optional"):
        return f"{key}=null: must have a value{_value_hint(key)}"
    if "is not a ListConfig" in reason:
        return f"{key}: must be a list; write its items in brackets, as {key}=[A,B]"
    if re.match(r"Cannot assign \w+ to Dict", reason):
        return f"{key}: must be a mapping; write {key}.NAME=VALUE"
    match = re.search(r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", reason)
    if match is None:
        return f"{key}: {reason}"
    value, kind = match.groups()
    return f"{key}={value}: must be {TYPE_WORDS.get(kind, kind)}{_whole_number_hint(key, value, kind)}"


def _value_hint(key: str) -> str:
    described = settings_of(Config).get(key)
    choices = () if described is None else described.setting.choices
    return f", one of {', '.join(choices)}" if choices else "; leave it out for its default"


FREE = ("optimizer.", "algorithm.", "env.kwargs", "model.kwargs", "model.encoder.")
"""How keys begin that the schema does not list."""
TYPE_WORDS = {"Integer": KIND_WORDS[int], "Float": KIND_WORDS[float], "bool": KIND_WORDS[bool]}
"""By OmegaConf's names of its types."""


def _unknown_hint(key: str) -> str:
    """The likeliest cause of an unknown key in a file: a typo, or a file whose settings landed in its own group."""
    group = key.partition(".")[0]
    if group in (*option_groups("conf"), *option_groups("sweeps")) and group not in known_keys(Config):
        return f"; a file for {group}= must begin with the line '# @package _global_'"
    return nearest(key, known_keys(Config)) or "; --help lists them"


def _whole_number_hint(key: str, value: str, kind: str) -> str:
    try:
        return f"; write {key}={int(float(value))}" if kind == "Integer" else ""
    except (ValueError, OverflowError):
        return ""


def to_yaml(config: Config) -> str:
    """Return the whole configuration as YAML, without passwords; `from_yaml` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(redacted(OmegaConf.to_container(OmegaConf.structured(config)))))


def from_yaml(text: str, *, to_run: bool = False) -> Config:
    """Return the Config that `to_yaml` wrote.

    What the text says about its algorithm gives way to the algorithm's file.

    Args:
        to_run: the run goes on, or is made again: without a setting of its own, masks of actions are as they were
            before there was one, off.

    Raises:
        ConfigError: the text is no configuration.
    """
    try:
        node = OmegaConf.create(text)
    except Exception as error:  # YAML's families
        raise ConfigError(f"{CONFIG_FILE}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{CONFIG_FILE}: holds no configuration")
    stored: Any = OmegaConf.to_container(node)
    if isinstance(stored.get("algorithm"), dict):
        stored["algorithm"] = with_facts_of_file(stored["algorithm"])
    if to_run and isinstance(stored.get("env"), dict):
        stored["env"].setdefault("action_mask", "off")
    return from_hydra(OmegaConf.create(stored))
