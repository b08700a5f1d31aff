"""Name a grid and its runs, and find out which of them are done. No Hydra, and no Optuna."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ppolab.config.loading import from_yaml
from ppolab.config.metrics import objective_names
from ppolab.config.schema import Config, effect_of, flattened
from ppolab.config.setting import SEED_OF_RUN
from ppolab.errors import ConfigError
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder

NAMED_SETTINGS = 3
"""So many of the settings that a grid varies are in the name of its folder."""
LONGEST_NUMBER, LONGEST_VALUE = 8, 24
"""Numbers and other values in the name of a run are shortened where they have more characters."""

OF_ENVIRONMENT = ("env", "env.id")
"""Settings that choose the environment, whose id begins the names."""

State = Literal["done", "interrupted", "new"]
"""What there is of a run: all, a checkpoint, or nothing to go on from."""


@dataclass(frozen=True)
class GridJob:
    """Describe one run of a grid.

    Attributes:
        settings: as `key=value`, those of all runs and its own. varied: its own ones by key.
        name: of its tracking run. folder: its files.
    """

    number: int
    settings: tuple[str, ...]
    varied: Mapping[str, str]
    config: Config
    name: str
    folder: RunFolder

    @property
    def shown(self) -> str:
        """What tells it from the others."""
        return " ".join(f"{key}={value}" for key, value in self.varied.items())


# --- names -----------------------------------------------------------------------------------------------------------


def run_names(configs: Sequence[Config], varied: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the runs of a grid: environment and what is varied, such as `CartPole-v1 clip=0.1 seed=0`.

    A `logger.run_name` stands in place of the environment. Long values are shortened, unless names would then be equal.
    """
    short = [_run_name(*pair, short=True) for pair in zip(configs, varied, strict=True)]
    if len(set(short)) == len(short):
        return short
    return [_run_name(*pair, short=False) for pair in zip(configs, varied, strict=True)]


def _run_name(config: Config, varied: Mapping[str, str], *, short: bool) -> str:
    named = config.logger.run_name
    told = () if named else OF_ENVIRONMENT  # the name begins with it
    values = {key.lstrip("+"): shortened(text) if short else text for key, text in varied.items() if key not in told}
    parts = values or ({} if named else {"seed": str(config.seed)})
    return " ".join([named or config.env.id, *(f"{key}={value}" for key, value in parts.items())])


def shortened(value: str) -> str:
    """Return a value as a name has it: a number with six digits, any other text cut."""
    if len(value) <= LONGEST_NUMBER:
        return value
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"


def grid_name(configs: Sequence[Config], keys: Sequence[str]) -> str:
    """Return the name of a grid: its environment, what it varies, and a digest of all that its numbers depend on.

    Settings that change no number, such as `workers` and `logger`, are not in the digest.
    """
    environments = {config.env.id for config in configs}
    first = environments.pop() if len(environments) == 1 else "tasks"
    names = [key.lstrip("+").rpartition(".")[2] for key in keys if key not in OF_ENVIRONMENT]
    content = json.dumps([identity(config) for config in configs], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]+", "-", "-".join([first, *names[:NAMED_SETTINGS], digest]))


def identity(config: Config) -> dict[str, Any]:
    """Return the settings in which two runs must agree for one to stand for the other in a grid."""
    return {
        key: value
        for key, value in flattened(config).items()
        if effect_of(key).of_study or effect_of(key) == SEED_OF_RUN
    }


# --- what is there already -------------------------------------------------------------------------------------------


def state_of(job: GridJob) -> State:
    """Return what there is of a run.

    Raises:
        ConfigError: its folder holds a run with other settings, or one whose configuration cannot be read.
    """
    folder = job.folder
    if not folder.config.is_file():
        return "new"
    again = f"remove it to begin again (rm -r {folder.path}), or choose another hydra.sweep.dir"
    try:
        there = identity(from_yaml(folder.config.read_text(encoding="utf-8")))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder.config}: damaged, or of another version of ppolab: {error}; {again}") from error
    wanted = identity(job.config)
    other = [key for key in {**wanted, **there} if _text(there.get(key)) != _text(wanted.get(key))]
    if other:
        differences = ", ".join(f"{key} {there.get(key)} -> {wanted.get(key)}" for key in other)
        raise ConfigError(f"{folder.path}: holds a run with other settings: {differences}; {again}")
    if folder.is_finished:
        return "done"
    return "interrupted" if folder.checkpoint("last").is_file() else "new"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def there_already(states: Sequence[State], folder: Path) -> str:
    """Return a line about what there is of a grid."""
    done, interrupted = states.count("done"), states.count("interrupted")
    if not done and not interrupted:
        return f"grid          {folder}: {len(states)} jobs"
    parts = [f"{done} of {len(states)} are done"]
    if interrupted:
        parts.append(f"{interrupted} {'goes' if interrupted == 1 else 'go'} on from the last checkpoint")
    return f"grid          {folder}: {', '.join(parts)}; to begin again: rm -r {folder}"


def measured(job: GridJob) -> tuple[float, ...]:
    """Return the objectives of a finished run, from its own file; NaN for what it never measured."""
    last: dict[str, float] = {}
    for row in read_metrics(job.folder.metrics):
        last |= row
    return tuple(last.get(name, float("nan")) for name in objective_names(job.config))
