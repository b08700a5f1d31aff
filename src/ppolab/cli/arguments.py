"""Check and rewrite the arguments of a command before Hydra sees them."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ppolab.cli.foreign_names import OUR_NAMES
from ppolab.config.files import config_folder
from ppolab.config.quoting import quoted, quoted_where_not_ascii
from ppolab.config.schema import SWEEP_GROUPS, SWEEP_SETTINGS, Config, EvaluateConfig, ExportConfig, known_keys
from ppolab.errors import ConfigError
from ppolab.runtime.fast_imports import lean_imports
from ppolab.runtime.signals import heeded_interrupt

PATHS = ("run", "resume", "path", "hydra.run.dir", "hydra.sweep.dir")
"""Settings whose values are paths or ids, whatever characters are in them."""
PLAIN_ID = re.compile(r"[A-Z]\w*-v\d+")
"""An id without special characters of Hydra's grammar, which Gymnasium knows without another import, if at all."""
PICKLED = "--experimental-rerun"


# --- rewriting -------------------------------------------------------------------------------------------------------


def rewrite(overrides: Sequence[str]) -> list[str]:
    """Return the settings of a training command as Hydra wants them; a function of its argument alone."""
    return [_in_full(as_text(override)) for override in overrides]


def as_text(override: str) -> str:
    """Return `key=value` with the value in quotes where Hydra's grammar would take apart what is meant as one text."""
    key, equals, value = override.partition("=")
    if not equals or value[:1] in ("", "'", '"') or value == "null":
        return override
    if key.lstrip("+") in PATHS and "$" not in value:
        return f"{key}={quoted(value)}"
    return f"{key}={quoted_where_not_ascii(value)}"


def _in_full(override: str) -> str:
    """Return `n_trials=40` as hydra.sweeper.n_trials=40, and what an environment takes with the plus that adds it."""
    key, equals, value = override.partition("=")
    if (key == "direction" and "," in value and value[0] != "[") or (key == "enqueue" and value[:1] == "{"):
        override = f"{key}=[{value}]"  # a list, to Hydra
    if equals and key in SWEEP_SETTINGS:
        return f"hydra.sweeper.{override}"
    if equals and key.startswith(("sampler.", "pruner.")):
        return f"++hydra.sweeper.{override}"
    return f"++{override}" if override.startswith("env.kwargs") else override


# --- checks of any command -------------------------------------------------------------------------------------------


def refuse_typing_habits(arguments: Sequence[str], config_name: str) -> None:
    """Refuse `--key value` and lists with spaces, and tell how to write them.

    Raises:
        ConfigError: with the setting as it must be typed.
    """
    known: set[str] = set()
    for number, argument in enumerate(arguments):
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        if argument.startswith("-") and len(argument) > 2:
            known = known or _settings(config_name)
            _refuse_dashes(argument, following, known)
        if "=" in argument and argument.endswith(",") and following:
            whole = argument + following
            raise ConfigError(f"{argument} {following}: a list has no spaces, or stands in quotes; write {whole}")


def _refuse_dashes(argument: str, following: str, known: set[str]) -> None:
    name, equals, value = argument.partition("=")
    word = name.lstrip("-").replace("-", "_")
    key = word if word in known else OUR_NAMES.get(word)
    if key is None or (name == "--run" and not equals):  # which is a flag of Hydra's, too
        return
    typed = argument
    if not equals and following and not following.startswith("-") and "=" not in following:
        typed, value = f"{argument} {following}", following
    raise ConfigError(f"{typed}: a setting is written without dashes; write {key}={value or 'VALUE'}")


def _settings(config_name: str) -> set[str]:
    """Return the settings of a command by their names on the command line."""
    if config_name == "config":
        return {*known_keys(Config), *_groups(), *SWEEP_SETTINGS}
    if config_name in ("evaluate", "export"):
        return set(known_keys(EvaluateConfig if config_name == "evaluate" else ExportConfig))
    from ppolab.report.settings import SHORT, ReportConfig

    return {*known_keys(ReportConfig), *SHORT, "tags"}


def _groups() -> set[str]:
    return {path.name for path in config_folder("conf").iterdir() if path.is_dir()} | set(SWEEP_GROUPS)


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuse what Hydra acts on before its configuration is there to be checked.

    Its --experimental-rerun, which it takes abbreviated, too, unpickles a file; a search path may import a package.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--e") and PICKLED.startswith(flag):
            raise ConfigError(f"{argument}: reads a pickle, which may run any code; go on with a run by resume=RUN")
        if "searchpath" in argument and "pkg:" in argument:
            raise ConfigError(f"{argument}: imports a package, which may run any code; use file://FOLDER")


# --- checks of one command -------------------------------------------------------------------------------------------


def check_train(overrides: Sequence[str], flags: Namespace) -> None:
    """Refuse settings that Hydra would ignore, take for something else, or answer with a traceback.

    Raises:
        ConfigError: for the first of them.
    """
    if flags.multirun:
        for override in overrides:
            if override.startswith("resume=") and override not in ("resume=", "resume=null"):
                raise ConfigError(f"{override}: is of a single run; a sweep goes on by its own command, typed again")
    elif not asks_for_no_run(flags):
        for override in overrides:
            key, equals, _ = override.partition("=")
            if equals and key.split(".")[0] in (*SWEEP_SETTINGS, *SWEEP_GROUPS):
                raise ConfigError(f"{override}: belongs to a sweep, and this is a single run; add -m, or leave it out")
    groups = _groups()
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if equals and key in groups and value == "null":
            raise ConfigError(f"{override}: names none of the files of {key}; leave it out, or choose one (--help)")
        if key == "algorithm.name":
            raise ConfigError(f"{override}: an algorithm comes with its settings; choose it with algorithm={value}")


def asks_for_no_run(flags: Namespace) -> bool:
    """Return whether Hydra's flags ask to show something instead of training."""
    return bool(flags.cfg or flags.info or flags.help or flags.hydra_help or flags.shell_completion)


def check_environment_id(overrides: Sequence[str], flags: Namespace) -> None:
    """Answer a mistyped environment before Hydra composes, which takes longer than to import Gymnasium.

    Raises:
        ConfigError: Gymnasium knows no such id.
    """
    given = [override for override in overrides if override.lstrip("+").startswith("env.id=")]
    name = given[0].removeprefix("env.id=") if len(given) == 1 else ""
    if PLAIN_ID.fullmatch(name) and not asks_for_no_run(flags) and flags.config_dir is None:
        with heeded_interrupt(), lean_imports():
            from ppolab.envs.factory import registered
        registered(name)


def check_run_is_named(overrides: Sequence[str]) -> None:
    """Refuse a run that is named without `run=`.

    Raises:
        ConfigError: with the setting as it must be typed.
    """
    for override in overrides:
        if override.startswith("~"):
            continue
        if "=" not in override or Path(override).exists():
            raise ConfigError(f"{override}: has no key; write run={override}")
