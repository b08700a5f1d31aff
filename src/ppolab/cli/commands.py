"""Answer the commands: Hydra composes, ppolab checks, and every error becomes one line and an exit code.

`train`, `evaluate`, `report` and `export` are what a shell starts. `train_main(arguments)` and its like are the same as
functions: they return the exit code, and leave `sys.argv`, `sys.path`, the environment and the signals as they were.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from hydra.core.config_store import ConfigStore

from ppolab.cli.arguments import (
    as_text,
    asks_for_no_run,
    check_environment_id,
    check_train,
    refuse_code,
    rewrite,
)
from ppolab.cli.error_lines import answer_to
from ppolab.cli.habits import refuse_habits
from ppolab.cli.help_parts import help_for
from ppolab.cli.hydra_guard import hydra_guarded
from ppolab.cli.hydra_run import Task, compose, parse_flags, run_hydra
from ppolab.cli.jobs import evaluate_task, export_task, overridden_keys, report_task, train_job
from ppolab.config.loading import from_hydra
from ppolab.config.quoting import quoted
from ppolab.config.schema import Config, register_schemas
from ppolab.redaction import redact
from ppolab.runtime.process_state import process_state_kept
from ppolab.runtime.ranks import started_as_another_rank
from ppolab.runtime.signals import signals_handled_by
from ppolab.training.resume import folder_to_resume, resumed, without_auto


def train() -> NoReturn:
    """Run `python src/train.py`, `ppolab-train`, and end the process."""
    _end(train_main(sys.argv[1:]))


def evaluate() -> NoReturn:
    """Run `python src/evaluate.py`, `ppolab-evaluate`, and end the process."""
    _end(evaluate_main(sys.argv[1:]))


def report() -> NoReturn:
    """Run `python src/report.py`, `ppolab-report`, and end the process."""
    _end(report_main(sys.argv[1:]))


def export() -> NoReturn:
    """Run `python src/export.py`, `ppolab-export`, and end the process."""
    _end(export_main(sys.argv[1:]))


# --- the commands as functions ---------------------------------------------------------------------------------------


def train_main(arguments: Sequence[str]) -> int:
    """Train as `ppolab-train ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: run_training(arguments, train_job))


def evaluate_main(arguments: Sequence[str]) -> int:
    """Evaluate a run as `ppolab-evaluate ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _evaluate(arguments))


def report_main(arguments: Sequence[str]) -> int:
    """Write a report as `ppolab-report ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: run_report(arguments, report_task))


def export_main(arguments: Sequence[str]) -> int:
    """Export a policy as `ppolab-export ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _export(arguments))


def run_training(arguments: Sequence[str], job: Task) -> object:
    """Run `job` as `ppolab-train ARGUMENTS` runs it; return what it returned, of one run."""
    flags = checked_flags(arguments, "config")
    check_train(flags.overrides, flags)
    check_environment_id(flags.overrides, flags)
    typed = without_auto(flags.overrides, lambda overrides: _checked(flags, rewrite(overrides)))
    folder = folder_to_resume(typed)
    overrides = rewrite(typed)
    if folder is not None:  # a resumed run goes on in its own folder
        return _run("config", job, flags, [*overrides, f"hydra.run.dir={quoted(str(folder))}"])
    if _is_another_rank(flags, overrides):  # the first rank has the folder
        with tempfile.TemporaryDirectory() as nowhere:
            return _run("config", job, flags, [*overrides, f"hydra.run.dir='{nowhere}'", "hydra.output_subdir=null"])
    return _run("config", job, flags, overrides)


def composed(arguments: Sequence[str]) -> Config:
    """Return the configuration that `ppolab-train ARGUMENTS` runs; of one that goes on, with what it had stored.

    Raises:
        ConfigError: what the command would answer.
    """
    flags = checked_flags(arguments, "config")
    check_train(flags.overrides, flags)
    overrides = rewrite(without_auto(flags.overrides, lambda typed: _checked(flags, rewrite(typed))))
    return resumed(compose("config", flags, overrides), overridden_keys(overrides))[0]


def _is_another_rank(flags: Namespace, overrides: list[str]) -> bool:
    """Return whether this process is one of a run's ranks, and not the first."""
    if flags.multirun or asks_for_no_run(flags) or not started_as_another_rank():
        return False
    return _checked(flags, overrides).world_size > 1


def _checked(flags: Namespace, overrides: list[str]) -> Config:
    return from_hydra(compose("config", flags, overrides))


def _evaluate(arguments: Sequence[str]) -> None:
    flags = checked_flags(arguments, "evaluate")
    _run("evaluate", evaluate_task, flags, [as_text(override) for override in flags.overrides])


def _export(arguments: Sequence[str]) -> None:
    flags = checked_flags(arguments, "export")
    _run("export", export_task, flags, [as_text(override) for override in flags.overrides])


def run_report(arguments: Sequence[str], job: Task) -> object:
    """Run `job` as `ppolab-report ARGUMENTS` runs it; return what it returned."""
    from ppolab.reports.settings import ReportConfig, in_full

    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    flags = checked_flags(arguments, "report")
    return _run("report", job, flags, [in_full(as_text(override)) for override in flags.overrides])


def checked_flags(arguments: Sequence[str], config_name: str) -> Namespace:
    """Return Hydra's flags, and the settings as `overrides`, of a command that can be meant.

    Raises:
        ConfigError: an argument is no setting and no flag, or would run code that Hydra does not check.
    """
    refuse_habits(arguments, config_name)
    refuse_code(arguments)
    sys.path.append(str(Path.cwd()))  # modules of the user's own, such as my_package:MyEnv-v0, lie where it is typed
    return parse_flags(arguments)


def _run(config_name: str, task: Task, flags: Namespace, overrides: list[str]) -> object:
    register_schemas()
    if flags == parse_flags(["--help", *flags.overrides]):  # with another flag, --help is left to Hydra
        print(help_for(config_name, flags.overrides, [override for override in overrides if "=" in override]))
        return None
    return run_hydra(config_name, task, flags, overrides)


# --- exit codes ------------------------------------------------------------------------------------------------------


def _end(code: int) -> NoReturn:
    gc.freeze()  # else the interpreter, as it ends, looks through all objects for cycles: 0.4 s, after a sweep 0.7 s
    sys.exit(code)


def _exit_code(command: Callable[[], object]) -> int:
    """Run a command; return 0, or the exit code of the error after one line on stderr."""
    wants_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    until_a_run_has_its_own = signals_handled_by(signal.default_int_handler, (signal.SIGTERM,))
    try:
        with process_state_kept(), hydra_guarded(), until_a_run_has_its_own:
            command()
        return 0
    except SystemExit as end:  # Hydra's end of --version, --hydra-help and their like
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return _say("interrupted; what had been written by then is in the run's folder", 130)
    except Exception as error:
        answer = answer_to(error)
        if answer is None or wants_trace:
            print(redact(traceback.format_exc()), file=sys.stderr, end="")
        return 1 if answer is None else _say(*answer)


def _say(problem: str, code: int) -> int:
    print(f"ppolab: {redact(problem)}", file=sys.stderr)
    return code
