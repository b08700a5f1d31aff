"""Take configurations apart that Hydra has composed for a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.hydra_ppolab._override_grammar import written
from hydra_plugins.hydra_ppolab._process_jobs import composed
from ppolab.config.loading import from_hydra
from ppolab.config.schema import SWEEP_GROUPS, flattened

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab._context import Multirun


def without_hydra(job: DictConfig) -> DictConfig:
    """Return a copy of a configuration without Hydra's own part."""
    copy = job.copy()
    OmegaConf.set_struct(copy, False)
    del copy["hydra"]
    return copy


def for_single_runs(multirun: Multirun, fixed: dict[str, str]) -> dict[str, str]:
    """Return `fixed` with the settings of groups that only a sweep has, so that each run can be trained alone."""
    kept = {key: value for key, value in fixed.items() if key not in SWEEP_GROUPS}
    if len(kept) == len(fixed):
        return fixed
    base = from_hydra(without_hydra(multirun.config))
    alone = composed(multirun.context, multirun.config, [f"{key}={value}" for key, value in kept.items()], 0)
    without = flattened(from_hydra(without_hydra(alone)))
    set_there = {key: written(value) for key, value in flattened(base).items() if without.get(key) != value}
    return set_there | kept
