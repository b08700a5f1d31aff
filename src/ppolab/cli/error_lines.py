"""Answer an error with one line and an exit code."""

from __future__ import annotations

import re
from itertools import chain

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ppolab.cli.foreign_names import OUR_NAMES
from ppolab.config.algorithms import algorithms_with
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.files import option_file, option_groups, options_of, user_folder
from ppolab.config.loading import type_problem
from ppolab.config.quoting import quoted
from ppolab.config.schema import Config, known_keys, option_keys
from ppolab.config.sweep_schema import SWEEP_SETTINGS
from ppolab.errors import ConfigError, PpolabError, nearest
from ppolab.records.wording import as_typed

OWN_CODE = {"model": "model.network", "optimizer": "optimizer.class", "env": "env.id"}
"""{group: the setting that names the user's own code, as MODULE:NAME}."""


def answer_to(error: Exception) -> tuple[str, int] | None:
    """Return one line and an exit code; None for an error that nobody foresaw."""
    if isinstance(error, PpolabError):
        return str(error), error.exit_code
    if isinstance(error, HydraException | OmegaConfBaseException):
        return hydra_problem(error), ConfigError.exit_code
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return _memory_problem(error), PpolabError.exit_code
    if isinstance(error, yaml.MarkedYAMLError):
        return _yaml_problem(error), ConfigError.exit_code
    if isinstance(error, OSError):
        return _file_problem(error), ConfigError.exit_code
    return None


_OUT_OF_MEMORY = re.compile(
    "can't allocate memory|cannot allocate memory|not enough memory|out of memory|failed to map segment", re.IGNORECASE
)
"""Words of PyTorch's allocators, of the system and of the loader of libraries."""


def _memory_problem(error: Exception) -> str:
    reason = re.sub(r"^\[enforce fail [^]]*\] *\. *", "", (str(error) or "no memory is left").splitlines()[0])
    return (
        f"out of memory: {reason}; lower num_envs, rollout_steps, model.hidden_sizes or model.memory_size, or raise "
        "the limit; the last checkpoint is kept"
    )


def _file_problem(error: OSError) -> str:
    return (
        f"{error.filename or 'the output folder'}: {error.strerror or error}; choose another with hydra.run.dir=FOLDER"
    )


def hydra_problem(error: Exception) -> str:
    """Return one line for what Hydra or OmegaConf say in several: the key, the rule, and the nearest valid name.

    The types of the errors, and what they carry, decide first. Only what they do not carry is read off their text.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, str(error))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__  # Hydra names no cause for what it finds in a file
    text = str(error)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key and (file := re.match(r"In '([^']+)'", text)):
        return f"{_place(file[1])}: {type_problem(cause)}"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        match = re.search(r"Could not override '([^']+)'", text)  # the key as typed, where an upper part is unknown
        key = match[1] if match else cause.full_key
        return f"{key}: no such setting{_foreign(key) or _nearest_key(key)}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return type_problem(cause)
    if match := re.search(r"Could not override '\w+@(\w+)\.\w+'", text):
        return f"{match[1]}: a file for {match[1]}= must begin with the line '# @package _global_'"
    if match := re.search(r"Multiple values for (\w+)\. To override a value use '(override) (\w+: [^']+)'", text):
        return f"{match[1]}: a file chooses it a second time; under defaults:, write 'override /{match[3]}'"
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such setting{_nearest_key(match[1])}"
    if match := re.search(r"Ambiguous value for argument '(.*)'", text):
        return f"{match[1]}: several values make a sweep; add -m, or put a list into brackets"
    return "; ".join(line.strip() for line in text.splitlines()[:2] if line.strip())


def _place(name: str) -> str:
    """Return the file that Hydra calls `experiment/mine`: from here, where it is the user's."""
    group, _, option = name.rpartition("/")
    for folder in ("conf", "sweeps"):
        users = user_folder(folder)
        if users is not None and option_file(group, option, folder).is_relative_to(users):
            return f"{folder}/{name}.yaml"
    return f"{name}.yaml"


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    place = f"{mark.name}, line {mark.line + 1}" if mark is not None else "a configuration file"
    return f"{place}: is no YAML: {error.problem}; mend it, or put the value into quotes"


def _missing_file(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = list(error.options or ())
    inner = group.rpartition("/")[2]
    if group != inner and inner in option_groups("conf"):
        return f"{error.missing_cfg_file}: no such option; under defaults:, write 'override /{inner}: {option}'"
    root, _, folder = group.partition("/")
    if folder and root in option_groups("conf"):  # a folder of options, as in experiment=tuned/ant
        options = [f"{folder}/{name}" for name in options_of(group)] or options
        group, option = root, f"{folder}/{option}"
    choices = f"; there are {', '.join(options)}" if options else ""
    if (":" in option or "." in option) and group in OWN_CODE:
        spelled = option if ":" in option else ":".join(option.rsplit(".", 1))
        choices = f"; one of your own is named as {OWN_CODE[group]}={spelled}"
    return f"{group or 'config'}={option}: no such option{nearest(option, options)}{choices}"


def _unreadable(override: str, text: str) -> str:
    key, equals, value = override.partition("=")
    if "choice(" in value and "NoneType is incompatible" in text:
        listed = re.sub(r"\bchoice\((.*)\)", r"\1", override)
        return f"{override}: choice() takes no null; list the values without it, such as {listed}"
    if not equals:
        return f"{override}: cannot be read; write key=value, in quotes where the shell would take it apart"
    plain_keys = re.sub(r"""(["'])([\w.]+)\1\s*:""", r"\2:", override).replace('"', "'")
    if _is_readable(plain_keys):
        return f'{override}: cannot be read; between braces keys stand without quotes: "{plain_keys}"'
    return (
        f"{override}: cannot be read; put the value into quotes, and these into quotes for the shell: "
        f'"{key}={quoted(value)}"'
    )


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _foreign(key: str) -> str:
    """Return a hint for the name that another framework gives to one of our settings."""
    ours = OUR_NAMES.get(key)
    return f"; did you mean '{ours}'?" if ours else ""


def _nearest_key(key: str) -> str:
    groups = (*option_groups("conf"), *option_groups("sweeps"))
    group, _, setting = key.partition(".")
    commands = [command for command, keys in _keys_by_command().items() if key in keys]
    if commands:
        return f" here; it is one of {', '.join(as_typed(f'python src/{command}.py') for command in commands)}"
    owners = algorithms_with(setting) if group == "algorithm" else []
    if owners:
        return f" of the chosen algorithm; it is one of algorithm={','.join(owners)}, which must be named as well"
    of_training = group in option_groups("conf")  # which evaluations and reports do not have
    keys = _keys_by_command()
    known = [*(keys["train"] if of_training else chain(*keys.values())), *option_keys(), *groups, *SWEEP_SETTINGS]
    last = key.rpartition(".")[2]
    namesakes = [name for name in known if name.rpartition(".")[2] == last and name != key]
    return (
        f"; did you mean '{namesakes[0]}'?"
        if namesakes
        else nearest(key, [name for name in known if name != key]) or "; --help lists them"
    )


def _keys_by_command() -> dict[str, tuple[str, ...]]:
    from ppolab.reports.settings import ReportConfig

    schemas = {"train": Config, "evaluate": EvaluateConfig, "export": ExportConfig, "report": ReportConfig}
    return {command: tuple(known_keys(schema)) for command, schema in schemas.items()}
