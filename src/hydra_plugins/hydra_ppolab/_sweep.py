"""What `-m` does: a grid through the launcher, or a study."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

from hydra_plugins.hydra_ppolab._launch import composed, cores_each, folder_of, make_pool, run_composed
from hydra_plugins.hydra_ppolab._space import split
from hydra_plugins.hydra_ppolab.launcher import ProcessLauncher
from ppolab.config import from_hydra, usable_cores
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.study.child import VARIABLE, TrialReference
from ppolab.study.engine import Job, Outcome, Sweep, TrialReport
from ppolab.study.settings import StudySettings
from ppolab.study.space import Choice, Dimension, SearchSpace

if TYPE_CHECKING:
    from hydra_plugins.hydra_ppolab.sweeper import PpolabSweeper

STUDIES = Path("outputs") / "studies"


def sweep(plugin: PpolabSweeper, arguments: Sequence[str]) -> Any:
    """Run what the command line and `hydra.sweeper.*` ask for; the best values of a study, the returns of a grid."""
    settings = plugin.settings
    params = [f"{key}={value}" for key, value in (settings["params"] or {}).items()]
    parser = OverridesParser.create(config_loader=plugin.hydra_context.config_loader)
    fixed, searched = split(parser.parse_overrides([*params, *arguments]))
    if not _is_study(settings, searched):
        return _grid(plugin, fixed, searched)
    return _study(plugin, fixed, SearchSpace(searched, settings["condition"]))


def _is_study(settings: dict[str, Any], searched: dict[str, Dimension]) -> bool:
    """A grid unless something only a study can do is asked for."""
    asked = settings["condition"] or settings["sampler"] or settings["n_trials"] or settings["study_name"]
    return bool(asked) or any(not isinstance(dimension, Choice) for dimension in searched.values())
