"""Take configurations apart that Hydra has composed for a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.hydra_ppolab._override_grammar import written
from ppolab.config.files import option_groups
from ppolab.config.loading import from_hydra
from ppolab.config.schema import flattened
from ppolab.config.sweep_schema import SWEEP_GROUPS

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._context import Multirun


def without_hydra(job: DictConfig) -> DictConfig:
    """Return a copy of a configuration without Hydra's own part."""
    copy = job.copy()
    OmegaConf.set_struct(copy, False)
    del copy["hydra"]
    return copy


def for_single_runs(multirun: Multirun, fixed: dict[str, str]) -> dict[str, str]:
    """Return `fixed` with what groups that only a sweep has set and choose, so that each run can be trained alone."""
    kept = {key: value for key, value in fixed.items() if key not in SWEEP_GROUPS}
    if len(kept) == len(fixed):
        return fixed
    base = from_hydra(without_hydra(multirun.config))
    kept = _chosen_by_groups(multirun, kept) | kept
    alone = multirun.composer.composed([f"{key}={value}" for key, value in kept.items()], 0)
    without = flattened(from_hydra(without_hydra(alone)))
    set_there = {key: written(value) for key, value in flattened(base).items() if without.get(key) != value}
    return set_there | kept


def _chosen_by_groups(multirun: Multirun, kept: dict[str, str]) -> dict[str, str]:
    """Return the options that the sweep has and `kept` would not choose, such as those that a search file overrides."""
    alone = multirun.composer.composed([f"{key}={value}" for key, value in kept.items()], 0)
    here, there = multirun.config.hydra.runtime.choices, alone.hydra.runtime.choices
    return {
        group: here[group] for group in option_groups("conf") if here.get(group) and here[group] != there.get(group)
    }
