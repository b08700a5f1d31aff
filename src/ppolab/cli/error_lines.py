"""What a command answers to an error: one line, and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ppolab.config import SWEEP_GROUPS, Config, EvaluateConfig, algorithm_keys, known_keys, type_problem
from ppolab.errors import ConfigError, PpolabError, nearest
from ppolab.family import algorithms_with

SWEEP_SETTINGS = (
    "n_trials", "timeout", "workers", "seeds_per_trial", "direction", "enqueue", "study_name", "storage",
    "max_failures",
)  # fmt: skip
"""Settings of hydra.sweeper that the command line takes by these names alone."""


def answer_to(error: Exception) -> tuple[str, int] | None:
    """One line and an exit code; None for an error that nobody foresaw."""
    if isinstance(error, PpolabError):
        return str(error), error.exit_code
    if isinstance(error, ValueError) and str(error).startswith("Only one of --run"):  # -m --info, say
        return str(error), ConfigError.exit_code
    if isinstance(error, HydraException | OmegaConfBaseException):
        return hydra_problem(error), ConfigError.exit_code
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return _memory_problem(error), PpolabError.exit_code
    if isinstance(error, OSError):
        return _file_problem(error), ConfigError.exit_code
    return None


_OUT_OF_MEMORY = re.compile(
    "can't allocate memory|cannot allocate memory|not enough memory|out of memory|failed to map segment", re.IGNORECASE
)
"""What PyTorch's allocators, the system and the loader of libraries say."""


def _memory_problem(error: Exception) -> str:
    told = re.sub(r"^\[enforce fail [^]]*\] *\. *", "", (str(error) or "no memory is left").splitlines()[0])
    return (
        f"out of memory: {told}; lower num_envs, rollout_steps or model.hidden_sizes, or raise the limit; "
        "the last checkpoint is kept"
    )


def _file_problem(error: OSError) -> str:
    return (
        f"{error.filename or 'the output folder'}: {error.strerror or error}; choose another with hydra.run.dir=FOLDER"
    )


def hydra_problem(error: Exception) -> str:
    """One line for what Hydra or OmegaConf say in several: the key, the rule, and the nearest valid name."""
    text = str(error)
    if match := re.search(r"Could not find '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        options = _available(text)
        choices = f"; there are {', '.join(options)}" if options else ""
        return f"{group}={option}: no such option{nearest(option, options)}{choices}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such setting{_nearest_key(match[1])}"
    if match := re.search(r"Ambiguous value for argument '(.*)'", text):
        return f"{match[1]}: several values make a sweep; add -m, or put a list into brackets"
    if match := re.search(r"Error parsing override '(.*)'", text):
        return f"{match[1]}: cannot be read; write key=value, in quotes where the shell would take it apart"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
        return type_problem(cause)
    return "; ".join(line.strip() for line in text.splitlines()[:2] if line.strip())


def _available(text: str) -> list[str]:
    _, _, listed = text.partition("Available options")
    listed, _, _ = listed.partition("Config search path")
    return [line.strip() for line in listed.splitlines()[1:] if line.startswith("\t")]


def _nearest_key(key: str) -> str:
    groups = ("env", "model", "optimizer", "algorithm", "trainer", "logger", "experiment", *SWEEP_GROUPS)
    group, _, setting = key.partition(".")
    owners = algorithms_with(setting) if group == "algorithm" else []
    if owners:
        return f" of the chosen algorithm; it is one of algorithm={','.join(owners)}, which must be named as well"
    known = [*_command_keys(), *groups, *SWEEP_SETTINGS]
    last = key.rpartition(".")[2]
    namesakes = [name for name in known if name.rpartition(".")[2] == last and name != key]
    return f"; did you mean '{namesakes[0]}'?" if namesakes else nearest(key, known) or "; --help lists them"


def _command_keys() -> Iterator[str]:
    from ppolab.report.settings import ReportConfig

    yield from known_keys(Config)
    yield from algorithm_keys()
    yield from known_keys(EvaluateConfig)
    yield from known_keys(ReportConfig)
