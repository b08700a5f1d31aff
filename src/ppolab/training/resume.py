"""Find the run to go on with, and check what may differ from it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ppolab.config.algorithms import refuse_unread, unread
from ppolab.config.loading import from_hydra, from_yaml, typed
from ppolab.config.schema import Config, effect_of, flattened
from ppolab.errors import ConfigError, TrackingError
from ppolab.records.run_folder import OUTPUTS, RUN_ID, FoundRun, RunFolder, download_run, find_run, unfinished_run
from ppolab.records.wording import next_command

log = logging.getLogger(__name__)

_AUTO = re.compile(r"""\+{0,2}resume=(['"]?)auto\1""")


def without_auto(arguments: list[str], config: Callable[[list[str]], Config]) -> list[str]:
    """Return the command line with the run that `resume=auto` stands for in its place.

    This is the last unfinished run with the same configuration; without one, a new run begins.

    Args:
        config: what a command line composes.
    """
    others = [argument for argument in arguments if not _AUTO.fullmatch(argument)]
    if len(others) == len(arguments):
        return arguments
    wanted = _meaning(config(others))
    found = unfinished_run(lambda folder: _stored_meaning(folder) == wanted)
    return others if found is None else [*others, f"resume='{found.path}'"]


def how_to_go_on(files: RunFolder) -> str:
    """Return the command that goes on with an interrupted run, or the run's folder if it has no checkpoint yet."""
    if files.checkpoint("last").is_file():
        return f"go on with: {next_command('train', 'resume', files.path)}"
    return f"there is no checkpoint to go on from in {files.path}"


def check_unused(files: RunFolder) -> None:
    """Raise ConfigError if a new run would overwrite another one's checkpoints, and take its film for its own."""
    if files.checkpoint("last").is_file():
        raise ConfigError(
            f"hydra.run.dir={files.path}: holds a run already; {how_to_go_on(files)}, choose another folder, or remove "
            f"this one (rm -r {files.path})"
        )


def _stored_meaning(folder: RunFolder) -> dict[str, Any] | None:
    """Return None for a configuration that is damaged, or of another version of this program."""
    try:
        return _meaning(from_yaml(folder.config.read_text()))
    except (ConfigError, OSError, UnicodeDecodeError):
        return None


def _meaning(config: Config) -> dict[str, Any]:
    """Return the settings in which two runs that are the same must agree."""
    settings = {key: value for key, value in flattened(config).items() if not effect_of(key).resumable}
    return {**settings, "total_steps": config.total_steps}


def folder_to_resume(arguments: list[str]) -> Path | None:
    """Return the folder of the run that `resume=` names among `arguments`; None without such an argument."""
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
    """Return a folder with the checkpoints of a run that was made on another machine."""
    from ppolab.records.tracking import resolve_tracking_uri

    uri = resolve_tracking_uri(store, OUTPUTS)
    try:
        return download_run(uri, run_id, OUTPUTS / "resumed" / run_id).path
    except TrackingError as error:
        raise ConfigError(f"resume={run_id}: neither under {OUTPUTS.absolute()} nor in the store: {error}") from error


def resumed(node: DictConfig, overridden: Sequence[str]) -> tuple[Config, FoundRun | None]:
    """Return the stored configuration of the run to resume, with what the command line changes; else that of `node`.

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
    if asked.resume == "auto":  # which the command line has replaced by a run, where it stands there
        raise ConfigError("resume=auto: is for the command line; leave it out of the file, and type it")
    found = find_run("resume", asked.resume)
    return with_changes(asked, found.folder, overridden, "resume", {"resume": asked.resume}), found


def with_changes(
    asked: Config, folder: RunFolder, overridden: Sequence[str], key: str, own: Mapping[str, object]
) -> Config:
    """Return the stored configuration of a run, with what the command line changes.

    Args:
        asked: what the command line composes; only what it names counts. overridden: these keys. key: the setting that
            names the run, `resume` or `rerun`. own: settings that follow from it.

    Raises:
        ConfigError: the stored configuration cannot be read, or a change would make it another run.
    """
    try:
        stored = from_yaml(folder.config.read_text(), to_run=True)
    except ConfigError as error:
        raise ConfigError(f"{folder.config}: damaged, or of another version of ppolab: {error}") from error
    wanted, before = flattened(asked), flattened(stored)
    given = _given(asked, overridden)
    changed = {name: wanted[name] for name in given if wanted[name] != before.get(name)}
    refused = [name for name in changed if not effect_of(name).resumable]
    if refused:
        differences = ", ".join(f"{name} {before.get(name)} -> {wanted[name]}" for name in refused)
        raise ConfigError(f"{key}={wanted[key]}: would silently become another run: {differences}; leave these out")
    merged = OmegaConf.structured(stored)
    for name, value in {**changed, **own}.items():
        OmegaConf.update(merged, name, value)
    refuse_unread(stored.algorithm, given)
    return from_hydra(merged)


def records_may_differ(stored: str, config: Config) -> bool:
    """Return whether a run resumed with `config` may record something else than it did at the same steps before.

    Args:
        stored: the configuration until then, as YAML.
    """
    before, now = flattened(from_yaml(stored)), flattened(config)
    return any(before.get(key) != value for key, value in now.items() if effect_of(key).changes_records)


def _given(config: Config, overridden: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `config`, by dotted name, that the keys or groups `overridden` set."""
    return {
        key: value
        for key, value in flattened(config).items()
        if any(key == name or key.startswith(f"{name}.") for name in overridden)
    }
