"""Make a recorded run again, and say whether the metrics are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from ppolab.config.loading import from_yaml, typed
from ppolab.config.schema import Config, effect_of, flattened
from ppolab.errors import ConfigError, RerunError, spelled
from ppolab.records.comparison import Comparison, Difference, compare_metrics
from ppolab.records.run_folder import RunFolder, find_run
from ppolab.records.versions import differing_versions, read_versions
from ppolab.training.resume import with_changes


def made_again(node: DictConfig, overridden: Sequence[str]) -> Config:
    """Return the configuration of the run that `rerun` names, for a new run; its folder is absolute there.

    Args:
        overridden: the keys that the command line names.

    Raises:
        ConfigError: there is no such run, it has no metrics, or a change would make it another run.
    """
    asked = typed(node)
    assert asked.rerun is not None
    original = find_run("rerun", asked.rerun).folder
    if not original.metrics.is_file():
        raise ConfigError(f"rerun={asked.rerun}: has no {original.metrics.name} to compare with; choose another run")
    return with_changes(asked, original, overridden, "rerun", {"rerun": str(original.path.absolute()), "resume": None})


def compared(config: Config, folder: RunFolder) -> str:
    """Return a closing line for the terminal: a run that was made again has the metrics that it had.

    Args:
        config, folder: of the run that was made again.

    Raises:
        RerunError: it has others; the message names the first difference, and what may have made it.
    """
    assert config.rerun is not None
    original = RunFolder(Path(config.rerun))
    try:
        found = compare_metrics(original.metrics, folder.metrics)
    except (OSError, KeyError, ValueError) as error:
        raise RerunError(f"rerun={config.rerun}: {original.metrics} cannot be read: {error}") from error
    if found.difference is not None:
        told = _told(found.difference)
        raise RerunError(f"rerun={config.rerun}: the metrics differ first {told}; {_causes(config, original, folder)}")
    return f"{'rerun':<13} the same metrics as {config.rerun}: {found.values:,} values are equal{_limits(found)}"


def _limits(found: Comparison) -> str:
    parts = "" if found.same_length else f" up to step {found.up_to:,}, where one of the runs ended"
    if found.only_in_one:
        parts += f"; only one of the runs has {', '.join(found.only_in_one)}"
    return parts


def _told(difference: Difference) -> str:
    before, now = ("none" if value is None else repr(value) for value in (difference.before, difference.now))
    return f"at step {difference.step:,}, in {difference.metric}: {before} -> {now}"


def _causes(config: Config, original: RunFolder, folder: RunFolder) -> str:
    """Name what differs between the runs besides their metrics."""
    stored = from_yaml(original.config.read_text())
    parts = []
    if settings := _differing_settings(stored, config):
        parts.append(f"settings differ: {', '.join(settings)}")
    before, now = read_versions(original.versions), read_versions(folder.versions)
    if before is None:
        parts.append(f"there is no {original.versions.name} of that run, so its versions are not known")
    elif versions := differing_versions(before, now or {}):
        parts.append(f"versions differ: {', '.join(versions)}")
    if stored.resume is not None:
        parts.append("that run was resumed on its way (docs/resuming.md says when this is exact)")
    return "; ".join(parts) or "settings and versions are the same (docs/reliability.md says what is not deterministic)"


def _differing_settings(before: Config, now: Config) -> list[str]:
    """Return the settings in which the runs differ and which may change a metric, as "compile auto -> false"."""
    old, new = flattened(before), flattened(now)
    return [
        f"{key} {spelled(old.get(key))} -> {spelled(new.get(key))}"
        for key in {**old, **new}
        if old.get(key) != new.get(key) and (effect_of(key).changes_records or not effect_of(key).resumable)
    ]
