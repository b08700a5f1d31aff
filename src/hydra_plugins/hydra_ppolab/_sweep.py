"""What `-m` does: a grid through the launcher, or a study."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


# --- grids -----------------------------------------------------------------------------------------------------------


def _grid(plugin: PpolabSweeper, fixed: dict[str, str], searched: dict[str, Dimension]) -> list[Any]:
    """Every combination, in the order of a written-out loop; raises the first error once all have run."""
    jobs = [[f"{key}={value}" for key, value in fixed.items()]]
    for key, dimension in searched.items():
        assert isinstance(dimension, Choice)
        jobs = [[*job, f"{key}={value}"] for job in jobs for value in dimension.values]
    for number, job in enumerate(jobs):  # a mistake in one shows before the first has run
        from_hydra(_without_hydra(composed(plugin.hydra_context, plugin.config, job, number)))
    returns = plugin.launcher.launch(jobs, initial_job_idx=0)
    return [result.return_value for result in returns]


def _without_hydra(job: Any) -> Any:
    copy = job.copy()
    OmegaConf.set_struct(copy, False)
    del copy["hydra"]
    return copy


# --- studies ---------------------------------------------------------------------------------------------------------


def _study(plugin: PpolabSweeper, fixed: dict[str, str], space: SearchSpace) -> Any:
    from ppolab.study.run import run_study  # Optuna, a second

    settings = study_settings(plugin, fixed, space)
    with _stop_signal() as stopping:
        result = run_study(settings, space, plugin.settings["storage"], STUDIES, _runner(plugin, settings), stopping)
    if stopping():
        raise InterruptedRun(f"stopped; {result.summary}; the same command goes on with the study")
    print(result.summary)
    return result.best_values


def study_settings(plugin: PpolabSweeper, fixed: dict[str, str], space: SearchSpace) -> StudySettings:
    """Checked; raises ConfigError."""
    settings, base = plugin.settings, from_hydra(_without_hydra(plugin.config))
    objectives = tuple(name.strip() for name in base.objective.split(","))
    directions = settings["direction"]
    directions = tuple(directions) if not isinstance(directions, str) else tuple(directions.split(","))
    sampler, pruner = dict(settings["sampler"] or {}), dict(settings["pruner"] or {})
    result = StudySettings(
        name=settings["study_name"] or _study_name(plugin, space, fixed),
        objectives=objectives,
        directions=directions,
        n_trials=20 if settings["n_trials"] is None else settings["n_trials"],
        timeout=settings["timeout"],
        workers=settings["workers"] or usable_cores(),
        seeds_per_trial=settings["seeds_per_trial"],
        max_failures=settings["max_failures"],
        sampler=sampler.pop("name", "tpe"),
        pruner=pruner.pop("name", "none"),
        seed=base.seed,
        report_interval=base.eval_interval or base.total_steps,
        total_steps=base.total_steps,
        sampler_options=sampler,
        pruner_options=pruner,
        enqueue=tuple(dict(item) for item in settings["enqueue"]),
        fixed=tuple(f"{key}={value}" for key, value in fixed.items()),
    )
    return result


def _study_name(plugin: PpolabSweeper, space: SearchSpace, fixed: dict[str, str]) -> str:
    """The search space's name and the environment's; for a space from the command line, what tells it from others."""
    choices = plugin.config.hydra.runtime.choices
    environment = choices.get("env") or "env"
    if choices.get("search"):
        return f"{choices['search']}-{environment}".replace("/", "-")
    digest = hashlib.sha256(json.dumps([space.described(), sorted(fixed.items())]).encode()).hexdigest()[:8]
    return f"{environment}-{digest}"


@contextmanager
def _stop_signal() -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask for an orderly end; yields a function that says whether one came."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
