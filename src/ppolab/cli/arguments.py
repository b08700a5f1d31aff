"""Check and rewrite the arguments of a command before Hydra sees them."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence

from ppolab.cli.habits import group_names
from ppolab.config.files import config_folder, user_folder
from ppolab.config.quoting import quoted, quoted_where_not_ascii
from ppolab.config.sweep_schema import SWEEP_GROUPS, SWEEP_SETTINGS
from ppolab.errors import ConfigError
from ppolab.runtime.fast_imports import lean_imports
from ppolab.runtime.signals import heeded_interrupt

PATHS = ("run", "resume", "rerun", "init_from", "path", "hydra.run.dir", "hydra.sweep.dir")
"""Settings whose values are paths or ids, whatever characters are in them."""
OF_THE_USERS_CODE = ("env.kwargs", "model.kwargs", "model.encoder.")
"""How settings begin whose last names are not ppolab's."""
OWN_CLASS = "optimizer.class"
PLAIN_ID = re.compile(r"[A-Z]\w*-v\d+")
"""An id without special characters of Hydra's grammar, which Gymnasium knows without another import, if at all."""
OF_A_SINGLE_RUN = {
    "resume": "a sweep goes on by its own command, typed again",
    "rerun": "leave out -m, and make one run again at a time",
}
"""Settings that a sweep cannot have, and what to type instead."""
PICKLED = "--experimental-rerun"


# --- rewriting -------------------------------------------------------------------------------------------------------


def rewrite(overrides: Sequence[str]) -> list[str]:
    """Return the settings of a training command as Hydra wants them; a function of its argument alone."""
    return [_in_full(as_text(override)) for override in _with_own_optimizer(overrides)]


def _with_own_optimizer(overrides: Sequence[str]) -> list[str]:
    """Return `optimizer.class=C` as the optimizer `own` whose class is C, which takes any further arguments."""
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    if OWN_CLASS not in keys:
        return list(overrides)
    composed = "optimizer" in keys or "resume" in keys  # a resumed run has its settings
    found = [] if composed else ["optimizer=own"]
    for key, override in zip(keys, overrides, strict=True):
        _, equals, value = override.partition("=")
        if key == OWN_CLASS:
            found.append(f"++optimizer._target_={value}")
        else:
            new = equals and key.startswith("optimizer.") and key not in ("optimizer._target_", "optimizer.lr")
            found.append(f"++{key}={value}" if new else override)
    return found


def as_text(override: str) -> str:
    """Return `key=value` with the value in quotes where Hydra's grammar would take apart what is meant as one text."""
    key, equals, value = override.partition("=")
    if not equals or value[:1] in ("", "'", '"') or value == "null":
        return override
    several = key == "init_from" and "," in value  # of a sweep
    if key.lstrip("+") in PATHS and "$" not in value and not several:
        return f"{key}={quoted(value)}"
    return f"{key}={quoted_where_not_ascii(value)}"


def _in_full(override: str) -> str:
    """Return `n_trials=40` as hydra.sweeper.n_trials=40, and what the user's code names with a plus to add it."""
    key, equals, value = override.partition("=")
    if (key == "direction" and "," in value and value[0] != "[") or (key == "enqueue" and value[:1] == "{"):
        override = f"{key}=[{value}]"  # a list, to Hydra
    if equals and key in SWEEP_SETTINGS:
        return f"hydra.sweeper.{override}"
    if equals and key.startswith(("sampler.", "pruner.", "scheduler.")):
        return f"++hydra.sweeper.{override}"
    return f"++{override}" if override.startswith(OF_THE_USERS_CODE) else override


# --- checks of any command -------------------------------------------------------------------------------------------


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
            key, _, value = override.partition("=")
            if key in OF_A_SINGLE_RUN and value not in ("", "null"):
                raise ConfigError(f"{override}: is of a single run; {OF_A_SINGLE_RUN[key]}")
    elif not asks_for_no_run(flags):
        for override in overrides:
            key, equals, _ = override.partition("=")
            if equals and key.split(".")[0] in (*SWEEP_SETTINGS, *SWEEP_GROUPS):
                raise ConfigError(f"{override}: belongs to a sweep, and this is a single run; add -m, or leave it out")
    _refuse_two_runs(overrides)
    groups = group_names()
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if equals and key in groups and value == "null":
            raise ConfigError(f"{override}: names none of the files of {key}; leave it out, or choose one (--help)")
        if equals and key in groups:
            _refuse_hidden(key, value)
        if key == "algorithm.name":
            raise ConfigError(f"{override}: an algorithm comes with its settings; choose it with algorithm={value}")


def _refuse_hidden(group: str, options: str) -> None:
    """Refuse an option of the user that has the name of a shipped one, which is the one that would be taken."""
    for folder in ("conf", "sweeps"):
        users = user_folder(folder)
        for option in options.split(","):
            file = f"{group}/{option.strip()}.yaml"
            if users is not None and (users / file).is_file() and (config_folder(folder) / file).is_file():
                raise ConfigError(
                    f"{group}={option}: {folder}/{file} has the name of an option of ppolab's; rename the file"
                )


def _refuse_two_runs(overrides: Sequence[str]) -> None:
    """Refuse to name two runs: one to make again, to go on with, or to start from."""
    given = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    named = [key for key in ("rerun", "resume", "init_from") if given.get(key, "null") not in ("", "null")]
    if len(named) > 1:
        one, other = (f"{key}={given[key]}" for key in named[:2])
        raise ConfigError(f"{other}: does not go with {one}; leave out one of them (docs/rerun_and_warm_start.md)")


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
