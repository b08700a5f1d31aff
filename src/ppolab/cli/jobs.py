"""Do what a command was asked for, once Hydra has composed the configuration."""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from ppolab.config.checks import check_values
from ppolab.config.loading import from_yaml
from ppolab.config.metrics import objective_names, unmeasured
from ppolab.config.schema import EvaluateConfig
from ppolab.envs.rendering import prepare_headless_rendering
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.records.run_folder import OUTPUTS, find_run
from ppolab.redaction import redact
from ppolab.runtime.fast_imports import import_lightning, lean_imports
from ppolab.runtime.ranks import rank_given_from_outside, ranks_of_this_machine
from ppolab.runtime.signals import heeded_interrupt
from ppolab.training.resume import resumed
from ppolab.training.trial import TRIAL, run_of_grid

if TYPE_CHECKING:
    from ppolab.training.result import RunResult
    from ppolab.training.trial import TrialOfStudy


def train_job(node: DictConfig) -> object:
    """Train one run, alone or of a sweep; return the value of the objective, or all of them if there are several.

    In a study it returns how the run ended, `{"end": ..., "values": [...], "error": ...}`, and never raises.
    """
    if TRIAL in os.environ:
        return _trial(node)
    result = _train(node)
    values = list(result.objectives) if result else [math.nan]
    return values[0] if len(values) == 1 else values


def _train(node: DictConfig, trial: Callable[[], TrialOfStudy | None] = run_of_grid) -> RunResult | None:
    """Check all that can be checked cheaply, then import what is heavy, and train.

    Returns:
        None in the ranks of a run that are not the first.
    """
    with heeded_interrupt():
        config, found = resumed(node, _overridden_keys())
        if config.world_size > 1 and rank_given_from_outside(config) is None:
            ranks_of_this_machine(config)
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs.factory import check_environment
        check_environment(config.env)
        from ppolab.records.tracking import resolve_tracking_uri

        if config.logger.kind != "none":
            resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)
        with lean_imports():
            import_lightning()
            from ppolab.envs.envpool_import import register_family
            from ppolab.training.run import run
        register_family(config.env)
    result = run(config, Path(HydraConfig.get().runtime.output_dir), found, trial())
    if result is not None:
        print(result.summary)
    return result


def _trial(node: DictConfig) -> dict[str, object]:
    """Train one run of a study; return how it ended."""
    from ppolab.study.trial_process import trial_here

    end, values, error = "failed", [], ""
    try:
        result = _train(node, trial_here)
        assert result is not None, "torchrun and srun start runs, not studies"
        end, values = "pruned" if result.pruned else "complete", list(result.objectives)
        error = unmeasured(objective_names(result.config), values, result.steps)
    except (InterruptedRun, KeyboardInterrupt):
        end = "interrupted"
    except Exception as problem:
        error = redact(str(problem) if isinstance(problem, ConfigError) else traceback.format_exc())
        print(error, file=sys.stderr)
    return {"end": end, "values": values, "error": error}


def evaluate_task(node: DictConfig) -> None:
    """Evaluate one run and print the result."""
    if OmegaConf.is_missing(node, "run"):
        raise ConfigError("run=RUN: is missing; RUN is a run folder, a checkpoint file or an MLflow run id")
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, EvaluateConfig)
    with heeded_interrupt():
        check_values(settings)
        found = find_run("run", settings.run, settings.checkpoint)
        config = from_yaml(found.folder.config.read_text())
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs.factory import check_environment
        check_environment(config.env)
        with lean_imports():
            import_lightning()
            from ppolab.agents.evaluate_run import evaluate_run
    print(evaluate_run(config, found, settings))


def report_task(node: DictConfig) -> None:
    """Write one report and print it."""
    from ppolab.report.settings import ReportConfig

    settings = OmegaConf.to_object(node)
    assert isinstance(settings, ReportConfig)
    with heeded_interrupt():
        from ppolab.report.make_report import make_report

        print(make_report(settings))


def _overridden_keys() -> list[str]:
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    return [override.key_or_group.replace("/", ".") for override in overrides]
