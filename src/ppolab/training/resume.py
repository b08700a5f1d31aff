"""Which run to go on with, and what may differ from it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ppolab.config import Config, flattened, from_hydra, from_yaml, typed
from ppolab.errors import ConfigError, TrackingError
from ppolab.family import refuse_unread, unread
from ppolab.runs import OUTPUTS, RUN_ID, FoundRun, RunFolder, find_run, unfinished_run

log = logging.getLogger(__name__)

CHANGES_RECORDS = ("total_steps", "eval_episodes", "eval_interval", "compile", "trainer.accelerator", "trainer.threads")
"""Settings that may be changed on a resume, and that change what is recorded after it."""
MAY_CHANGE_ON_RESUME = (
    *CHANGES_RECORDS, "resume", "checkpoint_interval", "keep_checkpoints", "objective", "logger.", "env.num_threads",
    "env.timeout",
)  # fmt: skip
"""Settings (or groups, with a point) that do not make another run of it."""


def without_auto(arguments: list[str], config: Callable[[list[str]], Config]) -> list[str]:
    """The command line with the run that `resume=auto` stands for: the last unfinished one with this configuration.

    Without such a run it is a new one.

    Args:
        config: what a command line composes.
    """
    if "resume=auto" not in arguments:
        return arguments
    others = [argument for argument in arguments if argument != "resume=auto"]
    wanted = _meaning(config(others))
    found = unfinished_run(lambda folder: _stored_meaning(folder) == wanted)
    return others if found is None else [*others, f"resume='{found.path}'"]


def _stored_meaning(folder: RunFolder) -> dict[str, Any] | None:
    """None for a configuration that is damaged, or of another version of this program."""
    try:
        return _meaning(from_yaml(folder.config.read_text()))
    except (ConfigError, OSError, UnicodeDecodeError):
        return None


def _meaning(config: Config) -> dict[str, Any]:
    """The settings in which two runs that are the same must agree."""
    settings = {key: value for key, value in flattened(config).items() if not key.startswith(MAY_CHANGE_ON_RESUME)}
    return {**settings, "total_steps": config.total_steps}


def folder_to_resume(arguments: list[str]) -> Path | None:
    """The folder of the run that `resume=` names among `arguments`; None if there is no such argument."""
    given = {key: value.strip("'\"") for key, _, value in (argument.partition("=") for argument in arguments)}
    value = given.get("resume", "null")
    if value in ("", "null"):
        return None
    try:
        return find_run("resume", value).folder.path
    except ConfigError:
        store = given.get("logger.tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
        if store is None or not RUN_ID.fullmatch(value):
            raise
        return _downloaded(store, value)


def _downloaded(store: str, run_id: str) -> Path:
    """A folder with the checkpoints of a run that was made on another machine."""
    from ppolab.checkpoint import load_checkpoint
    from ppolab.tracking import find_run_artifacts, redact, resolve_tracking_uri

    folder = RunFolder(OUTPUTS / "resumed" / run_id)
    uri = resolve_tracking_uri(store, OUTPUTS)
    try:
        find_run_artifacts(uri, run_id, folder.path)
    except TrackingError as error:
        raise ConfigError(f"resume={run_id}: neither under {OUTPUTS.absolute()} nor in the store: {error}") from error
    folder.config.write_text(load_checkpoint(folder.checkpoint("last")).config)
    folder.write_record(run_id, redact(uri))
    return folder.path


def resumed(node: DictConfig, overridden: Sequence[str]) -> tuple[Config, FoundRun | None]:
    """The stored configuration of the run to resume, with what the command line changes; or that of `node` itself.

    What was asked is checked only after it was merged: the shipped defaults beside it say nothing about the run.

    Args:
        overridden: the keys that the command line names.

    Raises:
        ConfigError: there is no such run, or a change would make it another one.
    """
    if node.resume is None:
        config = from_hydra(node)
        refuse_unread(config.algorithm, _given(config, overridden))
        ignored = unread(config.algorithm, flattened(config))
        if ignored:
            name = config.algorithm["name"]
            log.warning("algorithm=%s does not read %s, which the chosen files set", name, ", ".join(ignored))
        return config, None
    asked = typed(node)
    assert asked.resume is not None
    found = find_run("resume", asked.resume)
    try:
        stored = from_yaml(found.folder.config.read_text())
    except ConfigError as error:
        raise ConfigError(f"{found.folder.config}: damaged, or of another version of ppolab: {error}") from error
    wanted, before = flattened(asked), flattened(stored)
    given = _given(asked, overridden)
    changed = {key: wanted[key] for key in given if wanted[key] != before.get(key)}
    refused = [key for key in changed if not key.startswith(MAY_CHANGE_ON_RESUME)]
    if refused:
        differences = ", ".join(f"{key} {before.get(key)} -> {wanted[key]}" for key in refused)
        raise ConfigError(f"resume={asked.resume}: would silently become another run: {differences}; leave these out")
    merged = OmegaConf.structured(stored)
    for key, value in changed.items():
        OmegaConf.update(merged, key, value)
    refuse_unread(stored.algorithm, given)
    return from_hydra(merged), found


def records_may_differ(stored: str, config: Config) -> bool:
    """Whether a run resumed with `config` may record something else than it did at the same steps before.

    Args:
        stored: the configuration until then, as YAML.
    """
    before, now = flattened(from_yaml(stored)), flattened(config)
    return any(before[key] != now[key] for key in CHANGES_RECORDS)


def _given(config: Config, overridden: Sequence[str]) -> dict[str, Any]:
    """The settings of `config`, by dotted name, that the keys or groups `overridden` set."""
    return {
        key: value
        for key, value in flattened(config).items()
        if any(key == name or key.startswith(f"{name}.") for name in overridden)
    }
