"""Answer what people are used to type elsewhere with what to type here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ppolab.cli.foreign_names import FOREIGN_NAMES, FOREIGN_VALUES, HELP_WORDS, OUR_NAMES, RENDERING
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.files import config_folder, option_defaults, options_of
from ppolab.config.schema import Config, known_keys
from ppolab.config.sweep_schema import SWEEP_GROUPS, SWEEP_SETTINGS
from ppolab.errors import ConfigError, nearest
from ppolab.records.wording import as_typed

ENVIRONMENT_ID = re.compile(r"[\w./-]+:[\w./-]+|[\w./-]+-v\d+")
"""What names an environment itself, and not a file of conf/env."""
OWN_KEY = {"evaluate": "run", "export": "run", "report": "experiment"}
"""The setting that a word without a key means, by command; of a training, each option names its group."""


def refuse_habits(arguments: Sequence[str], config_name: str) -> None:
    """Refuse what is written as for another program.

    That is `--key value`, `key value`, lists with spaces, names and values of other programs, and words like `list`.

    Raises:
        ConfigError: with what must be typed.
    """
    flag_before = ""
    asks_for_help = any(argument in ("--help", "-h") for argument in arguments)
    for number, argument in enumerate(arguments):
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        if argument.startswith("-"):
            if len(argument) > 2:
                _refuse_dashes(argument, following, config_name)
        elif argument.endswith(",") and "=" in argument and following:
            whole = argument + following
            raise ConfigError(f"{argument} {following}: a list has no spaces, or stands in quotes; write {whole}")
        elif "=" in argument and not (config_name != "config" and Path(argument).exists()):
            _refuse_foreign(argument, config_name)
        elif argument[:1] != "~" and not asks_for_help and not _takes_a_value(flag_before):
            _refuse_word(argument, following, config_name)
        flag_before = argument


def _takes_a_value(flag: str) -> bool:
    """Return whether the word after one of Hydra's flags belongs to it: `--cfg job`."""
    return flag.startswith("-") and "=" not in flag and flag not in ("-m", "--multirun", "--resolve", "-r", "--run")


def _refuse_dashes(argument: str, following: str, config_name: str) -> None:
    name, equals, value = argument.partition("=")
    if name == "--help" and value:
        raise ConfigError(f"{argument}: the part stands behind a space; write --help {value}")
    key = _our_key(name.lstrip("-").replace("-", "_"), config_name)
    if key is None or (name == "--run" and not equals):  # which is a flag of Hydra's, too
        return
    typed = argument
    if not equals and following and not following.startswith("-") and "=" not in following:
        typed, value = f"{argument} {following}", following
    raise ConfigError(f"{typed}: a setting is written without dashes; write {_right_form(key, value)}")


def _refuse_foreign(argument: str, config_name: str) -> None:
    """`learning_rate=1e-3`, `device=cuda`, `algorithm=ppo`, `env=LunarLander-v3`, `render=human`."""
    name, _, value = argument.partition("=")
    if name in RENDERING and name not in _settings(config_name):
        films = as_typed("python src/evaluate.py run=RUN video=true")
        raise ConfigError(
            f"{argument}: no window is opened; {films} films an episode, and in Python "
            "ppolab.load(RUN).make_env('human') opens one"
        )
    key = _our_key(name, config_name)
    if key is not None and key != name:
        raise ConfigError(f"{name}: no such setting; write {_right_form(key, value)}")
    right = _right_form(name, value) if value and config_name == "config" else argument
    if right != argument:
        raise ConfigError(f"{argument}: no such option; write {right}")


def _refuse_word(word: str, following: str, config_name: str) -> None:
    """`env hopper`, `hopper`, `list`, `RUNFOLDER`."""
    if word in HELP_WORDS:
        raise ConfigError(f"{word}: is no setting; write --help for all of them, or --help PART, such as --help model")
    key = _our_key(word, config_name)
    if key is not None:
        has_value = following and "=" not in following and not following.startswith("-")
        typed, value = (f"{word} {following}", following) if has_value else (word, "")
        raise ConfigError(f"{typed}: a setting is written key=value; write {_right_form(key, value)}")
    if config_name in OWN_KEY:
        right = f"{OWN_KEY[config_name]}={word}"
        raise ConfigError(f"{word}: has no key; write {shlex.quote(right) if ' ' in word else right}")
    groups = [group for group in ("env", *sorted(group_names())) if word in options_of(group)]
    if groups:
        raise ConfigError(f"{word}: has no key; write {groups[0]}={word}")
    if ENVIRONMENT_ID.fullmatch(word):
        raise ConfigError(f"{word}: has no key; write {_right_form('env', word)}")
    hint = nearest(word, _settings(config_name))
    raise ConfigError(f"{word}: cannot be read; write key=value, in quotes where the shell would take it apart{hint}")


def _our_key(name: str, config_name: str) -> str | None:
    """Return our name of a setting of this command that goes by `name` here or elsewhere."""
    known = _settings(config_name)
    ours = name if name in known else OUR_NAMES.get(name)
    return ours if ours in known else None


def _right_form(key: str, value: str) -> str:
    """Return `key=value` with the value that is ours."""
    if key == "env" and value not in options_of("env") and ENVIRONMENT_ID.fullmatch(value):
        same = [name for name in options_of("env") if option_defaults("env", name).get("id") == value]
        return f"env={same[0]}" if same else f"env.id={value}"
    return f"{key}={FOREIGN_VALUES.get(key, {}).get(value, value) or 'VALUE'}"


@cache
def _settings(config_name: str) -> frozenset[str]:
    """Return the settings of a command by their names on the command line."""
    if config_name == "config":
        return frozenset({*known_keys(Config), *group_names(), *SWEEP_SETTINGS, *FOREIGN_NAMES})
    if config_name in ("evaluate", "export"):
        return frozenset(known_keys(EvaluateConfig if config_name == "evaluate" else ExportConfig))
    from ppolab.reports.settings import SHORT, ReportConfig

    return frozenset({*known_keys(ReportConfig), *SHORT, "tags"})


def group_names() -> set[str]:
    """Return the groups that a training command chooses options of."""
    return {path.name for path in config_folder("conf").iterdir() if path.is_dir()} | set(SWEEP_GROUPS)
