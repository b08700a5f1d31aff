"""The command line: Hydra composes, ppolab checks, and every error becomes one line and an exit code."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ppolab.answers import SWEEP_SETTINGS, answer_to
from ppolab.config import (
    SWEEP_GROUPS,
    TRIAL,
    Config,
    EvaluateConfig,
    from_hydra,
    from_yaml,
    register_schemas,
)
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.folders import config_folder
from ppolab.help_page import help_page
from ppolab.hydra_guard import guard_hydra, refuse_code
from ppolab.places import given_place, own_places, started_as_follower
from ppolab.redaction import redact
from ppolab.rendering import prepare_headless_rendering
from ppolab.resuming import folder_to_resume, resumed, without_auto
from ppolab.runs import OUTPUTS, RunFolder, find_run
from ppolab.startup import heeded_interrupt, import_lightning, lean_imports

if TYPE_CHECKING:
    from ppolab.services import RunResult, TrialOfStudy

HELP_FLAGS = {"--help", "-h"}

guard_hydra()  # here, since every process that runs a job imports this module, whoever starts it


def train() -> NoReturn:
    """`python src/train.py`, `ppolab-train`."""
    sys.exit(_exit_code(_run_train))


def evaluate() -> NoReturn:
    """`python src/evaluate.py`, `ppolab-evaluate`."""
    sys.exit(_exit_code(_run_evaluate))


def report() -> NoReturn:
    """`python src/report.py`, `ppolab-report`."""
    sys.exit(_exit_code(_run_report))


def _run_train() -> None:
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in MULTIRUN)  # Hydra wants flags together
    _check_multirun(sys.argv[1:])
    _check_choices(sys.argv[1:])
    _check_env_id(sys.argv[1:])
    sys.argv[1:] = [_in_full(argument) for argument in sys.argv[1:]]
    sys.argv[1:] = without_auto(sys.argv[1:], _composed)
    folder = folder_to_resume(sys.argv[1:])
    if folder is None and _follows(sys.argv[1:]):  # the first process has the folder
        with tempfile.TemporaryDirectory() as nowhere:
            sys.argv += [f"hydra.run.dir='{nowhere}'", "hydra.output_subdir=null"]
            _hydra_main("config", train_job)
            return
    if folder is not None:
        sys.argv.append(f"hydra.run.dir='{folder}'")  # a resumed run goes on in its own folder
    _hydra_main("config", train_job)


def _follows(arguments: list[str]) -> bool:
    """Whether this process is one of a run's several, and not the first."""
    alone = bool(WITHOUT_A_RUN.intersection(arguments)) or not started_as_follower()
    return not alone and _composed(arguments).processes > 1


PLAIN_ID = re.compile(r"[A-Z]\w*-v\d+")
"""An id that stands for itself in Hydra's grammar and that Gymnasium, if anybody, knows without another import."""
MULTIRUN = {"-m", "--multirun"}
WITHOUT_A_RUN = {*MULTIRUN, "-c", "--cfg", "-i", "--info", *HELP_FLAGS}


def _check_multirun(arguments: list[str]) -> None:
    """What only a sweep heeds must not silently train a single run, and a sweep goes on by its own command."""
    if MULTIRUN.intersection(arguments):
        for argument in arguments:
            if argument.startswith("resume=") and argument not in ("resume=", "resume=null"):
                raise ConfigError(f"{argument}: is of a single run; a sweep goes on by its own command, typed again")
    if WITHOUT_A_RUN.intersection(arguments):
        return
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if equals and key.split(".")[0] in (*SWEEP_SETTINGS, *SWEEP_GROUPS):
            raise ConfigError(f"{argument}: belongs to a sweep, and this is a single run; add -m, or leave it out")


def _check_choices(arguments: list[str]) -> None:
    """What Hydra would take for something else, or answer with a traceback."""
    groups = {path.name for path in config_folder("conf").iterdir() if path.is_dir()} | set(SWEEP_GROUPS)
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        if equals and key in groups and value == "null":
            raise ConfigError(f"{argument}: names none of the files of {key}; leave it out, or choose one (--help)")
        if key == "algorithm.name":
            raise ConfigError(f"{argument}: an algorithm comes with its settings; choose it with algorithm={value}")


def _check_env_id(arguments: list[str]) -> None:
    """A mistyped environment is answered before Hydra composes: that takes longer than to import Gymnasium."""
    given = [argument for argument in arguments if argument.lstrip("+").startswith("env.id=")]
    flags = {argument for argument in arguments if argument.startswith("-")}
    name = given[0].removeprefix("env.id=") if len(given) == 1 else ""
    if PLAIN_ID.fullmatch(name) and flags <= MULTIRUN:
        with heeded_interrupt(), lean_imports():
            from ppolab.envs import registered
        registered(name)


def _in_full(argument: str) -> str:
    """An argument as Hydra wants it: `n_trials=40` is hydra.sweeper's, and what an environment takes needs a plus."""
    key, equals, value = argument.partition("=")
    if (key == "direction" and "," in value and value[0] != "[") or (key == "enqueue" and value[:1] == "{"):
        argument = f"{key}=[{value}]"  # a list, to Hydra
    if equals and key in SWEEP_SETTINGS:
        return f"hydra.sweeper.{argument}"
    if equals and key.startswith(("sampler.", "pruner.")):
        return f"++hydra.sweeper.{argument}"
    return f"++{argument}" if argument.startswith("env.kwargs") else argument


def _run_evaluate() -> None:
    _hydra_main("evaluate", _evaluate_task)


def _run_report() -> None:
    from ppolab.report.settings import ReportConfig, in_full

    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    sys.argv[1:] = [in_full(argument) for argument in sys.argv[1:]]
    _hydra_main("report", _report_task)


def _hydra_main(config_name: str, task: Callable[[DictConfig], object]) -> None:
    register_schemas()
    refuse_code(sys.argv[1:])
    sys.path.append(str(Path.cwd()))  # a user's own env.id=my_package:MyEnv-v0 lies where the command is typed
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, instead of printing and exiting itself
    if _asks_for_help_only(sys.argv[1:]):
        print(help_page(config_name, [argument for argument in sys.argv[1:] if argument not in HELP_FLAGS]))
        return
    if not any("hydra.mode=" in argument for argument in sys.argv):  # which -m says; asked, Hydra composes all of it
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    raised: list[Exception] = []
    hydra.main(config_path=str(config_folder("conf")), config_name=config_name, version_base="1.3")(
        _kept_from_hydra(task, raised)
    )()
    if raised:
        raise raised[0]


def _composed(overrides: list[str]) -> Config:
    register_schemas()
    with initialize_config_dir(str(config_folder("conf")), version_base="1.3"):
        return from_hydra(compose("config", overrides))


def _asks_for_help_only(arguments: list[str]) -> bool:
    """Together with Hydra's other flags, --help is left to Hydra."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    return bool(flags) and flags <= HELP_FLAGS


def _kept_from_hydra(task: Callable[[DictConfig], object], raised: list[Exception]) -> Callable[[DictConfig], object]:
    """`task`, but its exception goes to `raised`: Hydra would print a line of its own about it.

    In a multirun it is raised as usual, since it must end the sweep.
    """

    def guarded(node: DictConfig) -> object:
        context = HydraConfig.get()
        try:
            return task(node)
        except Exception as error:
            if isinstance(error, ConfigError) and context.output_subdir is not None:
                _remove_if_unused(Path(context.runtime.output_dir))
            if context.mode == RunMode.MULTIRUN:
                raise
            raised.append(error)
            return None

    return guarded


def _remove_if_unused(folder: Path) -> None:
    """Wrong input leaves no folder behind: remove what Hydra made, unless a run has written there."""
    if RunFolder(folder).config.exists():
        return
    logging.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # outputs/ and the day's folder, as long as they are empty
        for parent in folder.parents:
            if Path.cwd() not in parent.parents:
                break
            parent.rmdir()


# --- tasks -----------------------------------------------------------------------------------------------------------


def train_job(node: DictConfig) -> object:
    """One run, alone or of a sweep: the value of the objective, or all of them if there are several.

    In a study it returns how the run ended, `{"end": ..., "values": [...], "error": ...}`, and never raises.
    """
    if TRIAL in os.environ:
        return _trial(node)
    result = _train(node)
    values = list(result.objectives) if result else [math.nan]
    return values[0] if len(values) == 1 else values


def _train(node: DictConfig, trial: Callable[[], TrialOfStudy | None] = lambda: None) -> RunResult | None:
    """Check all that can be checked cheaply, then import what is heavy, and train.

    None in processes that only follow the run's first one.
    """
    with heeded_interrupt():
        config, found = resumed(node, _overridden_keys())
        if config.processes > 1 and given_place(config) is None:
            own_places(config)
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs import check_environment
        check_environment(config.env)
        from ppolab.tracking import resolve_tracking_uri

        if config.logger.kind == "mlflow":
            resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS)
        with lean_imports():
            import_lightning()
            from ppolab.envs.envpool_families import register_family
            from ppolab.experiment import run
        register_family(config.env)
    result = run(config, Path(HydraConfig.get().runtime.output_dir), found, trial())
    if result is not None:
        print(result.summary)
    return result


def _trial(node: DictConfig) -> dict[str, object]:
    """One run of a study."""
    from ppolab.study.child import trial_here

    end, values, error = "failed", [], ""
    try:
        result = _train(node, trial_here)
        assert result is not None, "torchrun and srun start runs, not studies"
        end, values = "pruned" if result.pruned else "complete", list(result.objectives)
    except (InterruptedRun, KeyboardInterrupt):
        end = "interrupted"
    except Exception as problem:
        error = redact(str(problem) if isinstance(problem, ConfigError) else traceback.format_exc())
        print(error, file=sys.stderr)
    return {"end": end, "values": values, "error": error}


def _evaluate_task(node: DictConfig) -> None:
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, EvaluateConfig)
    with heeded_interrupt():
        _check_evaluate(settings)
        found = find_run("run", settings.run, settings.checkpoint)
        config = from_yaml(found.folder.config.read_text())
        prepare_headless_rendering()
        with lean_imports():
            from ppolab.envs import check_environment
        check_environment(config.env)
        with lean_imports():
            import_lightning()
            from ppolab.evaluation_run import evaluate_run
    print(evaluate_run(config, found, settings))


def _check_evaluate(settings: EvaluateConfig) -> None:
    if settings.episodes < 1:
        raise ConfigError(f"episodes={settings.episodes}: must be greater than 0")
    if settings.checkpoint not in ("best", "last"):
        raise ConfigError(f"checkpoint={settings.checkpoint}: must be one of best, last")
    if settings.seed < 0:
        raise ConfigError(f"seed={settings.seed}: must be 0 or more")


def _report_task(node: DictConfig) -> None:
    from ppolab.report.settings import ReportConfig

    settings = OmegaConf.to_object(node)
    assert isinstance(settings, ReportConfig)
    with heeded_interrupt():
        from ppolab.report.command import make_report

        print(make_report(settings))


def _overridden_keys() -> list[str]:
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    return [override.key_or_group.replace("/", ".") for override in overrides]


# --- exit codes ------------------------------------------------------------------------------------------------------


def _exit_code(command: Callable[[], None]) -> int:
    """Run a command; 0, or the code of section 1 of the README after one line on stderr."""
    asked_for_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until a run has its own
    try:
        command()
        return 0
    except KeyboardInterrupt:
        return _say("interrupted; what had been written by then is in the run's folder", 130)
    except Exception as error:
        answer = answer_to(error)
        if answer is None or asked_for_trace:
            print(redact(traceback.format_exc()), file=sys.stderr, end="")
        return 1 if answer is None else _say(*answer)


def _say(problem: str, code: int) -> int:
    print(f"ppolab: {redact(problem)}", file=sys.stderr)
    return code
