"""Do what a command was asked for, once Hydra has composed the configuration."""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from ppolab.agents.export_formats import check_packages
from ppolab.config.checks import check_values
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.loading import from_yaml
from ppolab.config.metrics import objective_names, unmeasured
from ppolab.config.schema import Config
from ppolab.envs.rendering import prepare_headless_rendering
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.records.run_folder import OUTPUTS, FoundRun, RunFolder, find_run
from ppolab.redaction import redact
from ppolab.runtime.fast_imports import import_lightning, lean_imports
from ppolab.runtime.memory import forget_code
from ppolab.runtime.ranks import rank_given_from_outside, ranks_of_this_machine
from ppolab.runtime.signals import heeded_interrupt
from ppolab.training.rerun import compared, made_again
from ppolab.training.resume import how_to_go_on, resumed
from ppolab.training.trial import TRIAL, run_of_grid

if TYPE_CHECKING:
    from ppolab.reports.make_report import Report
    from ppolab.training.result import RunResult
    from ppolab.training.trial import TrialOfStudy


NO_RUN = "run=RUN: is missing; RUN is a run folder, a checkpoint file, an MLflow run id or a run's name"


def train_job(node: DictConfig, records: Connection | None = None) -> object:
    """Train one run, alone or of a sweep; return the value of the objective, or all of them if there are several.

    In a study it returns how the run ended, `{"end": ..., "values": [...], "error": ...}`, and never raises.

    Args:
        records: to the study, which sends the run's records to the tracking store; None: this process does.
    """
    if TRIAL in os.environ:
        return _trial(node, records)
    result = told(trained(node))
    values = list(result.objectives) if result else [math.nan]
    return values[0] if len(values) == 1 else values


def told(result: RunResult | None) -> RunResult | None:
    """Print the summary of a run, if there is one, and how it compares with the run that it makes again."""
    if result is not None:
        print(result.summary)
        tell_of_rerun(result)
    return result


def tell_of_rerun(result: RunResult) -> None:
    """Print that a run made again has the metrics that it had.

    Raises:
        RerunError: it has others.
    """
    if result.config.rerun is not None:
        print(compared(result.config, result.folder))


def trained(
    node: DictConfig, trial: Callable[[], TrialOfStudy | None] = run_of_grid, *, own_process: bool = True
) -> RunResult | None:
    """Check all that can be checked cheaply, then import what is heavy, and train.

    Args:
        own_process: see `ppolab.training.run.run`.

    Returns:
        None in the ranks of a run that are not the first.
    """
    with heeded_interrupt():
        config, found = _what_to_train(node)
        if config.world_size > 1 and rank_given_from_outside(config) is None:
            ranks_of_this_machine(config)
        _check_outside(config)
        with lean_imports():
            import_lightning(whole=not own_process)
            from ppolab.training.run import run
        if own_process:
            forget_code()  # most of which only the imports have called
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        return run(config, folder, found, trial(), own_process=own_process)
    except KeyboardInterrupt:  # it came while nobody waited for it, such as while records were sent
        if not own_process:
            raise
        raise InterruptedRun(f"interrupted; {how_to_go_on(RunFolder(folder))}") from None


def _check_outside(config: Config) -> None:
    """Check the environment and the tracking store of a run."""
    prepare_headless_rendering()
    with lean_imports():
        from ppolab.envs.factory import check_environment
    check_environment(config.env)
    from ppolab.records.tracking import resolve_tracking_uri

    if config.logger.kind != "none":
        resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)


def _what_to_train(node: DictConfig) -> tuple[Config, FoundRun | None]:
    """Return the configuration of the run, and the run to go on with, if there is one."""
    given = overridden_keys(HydraConfig.get().overrides.task)
    if node.rerun is not None and node.resume is None:
        return made_again(node, given), None
    config, found = resumed(node, given)
    if config.init_from is not None and found is None:
        first = find_run("init_from", config.init_from, "best").folder
        if config.init_from == first.name():  # which a later run may have, too, even this one
            config = replace(config, init_from=first.run_id() or str(first.path.absolute()))
    return config, found


def _trial(node: DictConfig, records: Connection | None) -> dict[str, object]:
    """Train one run of a study; return how it ended."""
    from ppolab.study.trial_process import trial_here

    end, values, error = "failed", [], ""
    try:
        result = told(trained(node, partial(trial_here, records)))
        assert result is not None, "torchrun and srun start runs, not studies"
        end, values = "pruned" if result.pruned else "complete", list(result.objectives)
        error = unmeasured(objective_names(result.config), values, result.steps)
    except (InterruptedRun, KeyboardInterrupt):
        end = "interrupted"
    except Exception as problem:
        error = redact(str(problem) if isinstance(problem, ConfigError) else traceback.format_exc())
        print(error, file=sys.stderr)
    return {"end": end, "values": values, "error": error}


@dataclass(frozen=True)
class SeedJob:
    """Describe one of the runs of a trial that are trained at once.

    Attributes:
        folder: its files. node: its whole configuration. reference: to its trial, see `TrialReference.as_text`.
        records: see `train_job`.
    """

    folder: Path
    node: DictConfig
    reference: str
    records: Connection | None


def train_together(jobs: Sequence[SeedJob]) -> list[dict[str, object]]:
    """Train the runs of a trial at once; return how each ended, as `train_job` does. If one fails, all do."""
    end, error, results = "failed", "", []
    try:
        results = [told(result) for result in _trained_together(jobs)]
    except (InterruptedRun, KeyboardInterrupt):
        end = "interrupted"
    except Exception as problem:
        error = redact(str(problem) if isinstance(problem, ConfigError) else traceback.format_exc())
        print(error, file=sys.stderr)
    if not results:
        return [{"end": end, "values": [], "error": error} for _ in jobs]
    answers: list[dict[str, object]] = []
    for result in results:
        assert result is not None
        values = list(result.objectives)
        missing = unmeasured(objective_names(result.config), values, result.steps)
        answers.append({"end": "complete", "values": values, "error": missing})
    return answers


def _trained_together(jobs: Sequence[SeedJob]) -> list[RunResult]:
    from ppolab.study.trial_process import TrialReference, trial_of

    with heeded_interrupt():
        configs = [_what_to_train(job.node)[0] for job in jobs]
        _check_outside(configs[0])
        with lean_imports():
            import_lightning()
            from ppolab.training.members import Seed, run_members
        seeds = [
            Seed(config, job.folder, trial_of(TrialReference.from_text(job.reference), job.records))
            for config, job in zip(configs, jobs, strict=True)
        ]
    return run_members(seeds)


def evaluate_task(node: DictConfig) -> None:
    """Evaluate one run and print the result."""
    if OmegaConf.is_missing(node, "run"):
        raise ConfigError(NO_RUN)
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, EvaluateConfig)
    with heeded_interrupt():
        check_values(settings)
        found = find_run("run", settings.run, settings.checkpoint)
        config = from_yaml(found.folder.config.read_text())
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs.factory import check_environment, for_evaluation
        check_environment(for_evaluation(config.env))
        with lean_imports():
            import_lightning()
            from ppolab.agents.evaluate_run import evaluate_run
    print(evaluate_run(found, settings))


def export_task(node: DictConfig) -> None:
    """Export one policy and print what was written."""
    if OmegaConf.is_missing(node, "run"):
        raise ConfigError(NO_RUN)
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, ExportConfig)
    with heeded_interrupt():
        check_values(settings)
        check_packages(f"format={settings.format}", settings.format)
        found = find_run("run", settings.run, settings.checkpoint)
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs.factory import check_environment, for_evaluation
        check_environment(for_evaluation(from_yaml(found.folder.config.read_text()).env))
        from ppolab.agents.export_run import export_run
    print(export_run(found, settings, partial(print, flush=True)))


def report_task(node: DictConfig) -> None:
    """Write one report and print it."""
    print(reported(node).text)


def reported(node: DictConfig) -> Report:
    """Write one report."""
    from ppolab.reports.settings import ReportConfig

    settings = OmegaConf.to_object(node)
    assert isinstance(settings, ReportConfig)
    with heeded_interrupt():
        from ppolab.reports.make_report import make_report

        return make_report(settings)


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """Return the settings and groups that a command line sets."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.key_or_group.replace("/", ".") for override in parsed]
