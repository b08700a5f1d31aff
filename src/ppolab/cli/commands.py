"""Answer the commands: Hydra composes, ppolab checks, and every error becomes one line and an exit code.

`train`, `evaluate`, `report` and `export` are what a shell starts. `train_main(arguments)` and its like are the same as
functions: they return the exit code, and leave `sys.argv`, `sys.path`, the environment and the signals as they were.
"""

from __future__ import annotations

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
    check_run_is_named,
    check_train,
    refuse_code,
    refuse_typing_habits,
    rewrite,
)
from ppolab.cli.error_lines import answer_to
from ppolab.cli.help_page import help_page
from ppolab.cli.hydra_guard import hydra_guarded
from ppolab.cli.hydra_run import Task, compose, parse_flags, run_hydra
from ppolab.cli.jobs import evaluate_task, export_task, report_task, train_job
from ppolab.config.loading import from_hydra
from ppolab.config.quoting import quoted
from ppolab.config.schema import Config, register_schemas
from ppolab.redaction import redact
from ppolab.runtime.process_state import process_state_kept
from ppolab.runtime.ranks import started_as_another_rank
from ppolab.runtime.signals import signals_handled_by
from ppolab.training.resume import folder_to_resume, without_auto


def train() -> NoReturn:
    """Run `python src/train.py`, `ppolab-train`, and end the process."""
    sys.exit(train_main(sys.argv[1:]))


def evaluate() -> NoReturn:
    """Run `python src/evaluate.py`, `ppolab-evaluate`, and end the process."""
    sys.exit(evaluate_main(sys.argv[1:]))


def report() -> NoReturn:
    """Run `python src/report.py`, `ppolab-report`, and end the process."""
    sys.exit(report_main(sys.argv[1:]))


def export() -> NoReturn:
    """Run `python src/export.py`, `ppolab-export`, and end the process."""
    sys.exit(export_main(sys.argv[1:]))


# --- the commands as functions ---------------------------------------------------------------------------------------


def train_main(arguments: Sequence[str]) -> int:
    """Train as `ppolab-train ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _train(arguments))


def evaluate_main(arguments: Sequence[str]) -> int:
    """Evaluate a run as `ppolab-evaluate ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _evaluate(arguments))


def report_main(arguments: Sequence[str]) -> int:
    """Write a report as `ppolab-report ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _report(arguments))


def export_main(arguments: Sequence[str]) -> int:
    """Export a policy as `ppolab-export ARGUMENTS` does; return the exit code."""
    return _exit_code(lambda: _export(arguments))


def _train(arguments: Sequence[str]) -> None:
    flags = _checked_flags(arguments, "config")
    check_train(flags.overrides, flags)
    check_environment_id(flags.overrides, flags)
    typed = without_auto(flags.overrides, lambda overrides: _composed(flags, rewrite(overrides)))
    folder = folder_to_resume(typed)
    overrides = rewrite(typed)
    if folder is not None:  # a resumed run goes on in its own folder
        _run("config", train_job, flags, [*overrides, f"hydra.run.dir={quoted(str(folder))}"])
    elif _is_another_rank(flags, overrides):  # the first rank has the folder
        with tempfile.TemporaryDirectory() as nowhere:
            _run("config", train_job, flags, [*overrides, f"hydra.run.dir='{nowhere}'", "hydra.output_subdir=null"])
    else:
        _run("config", train_job, flags, overrides)


def _is_another_rank(flags: Namespace, overrides: list[str]) -> bool:
    """Return whether this process is one of a run's ranks, and not the first."""
    if flags.multirun or asks_for_no_run(flags) or not started_as_another_rank():
        return False
    return _composed(flags, overrides).world_size > 1


def _composed(flags: Namespace, overrides: list[str]) -> Config:
    return from_hydra(compose("config", flags, overrides))


def _evaluate(arguments: Sequence[str]) -> None:
    flags = _checked_flags(arguments, "evaluate")
    check_run_is_named(flags.overrides)
    _run("evaluate", evaluate_task, flags, [as_text(override) for override in flags.overrides])


def _export(arguments: Sequence[str]) -> None:
    flags = _checked_flags(arguments, "export")
    check_run_is_named(flags.overrides)
    _run("export", export_task, flags, [as_text(override) for override in flags.overrides])


def _report(arguments: Sequence[str]) -> None:
    from ppolab.report.settings import ReportConfig, in_full

    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    flags = _checked_flags(arguments, "report")
    _run("report", report_task, flags, [in_full(as_text(override)) for override in flags.overrides])


def _checked_flags(arguments: Sequence[str], config_name: str) -> Namespace:
    refuse_typing_habits(arguments, config_name)
    refuse_code(arguments)
    return parse_flags(arguments)


def _run(config_name: str, task: Task, flags: Namespace, overrides: list[str]) -> None:
    register_schemas()
    sys.path.append(str(Path.cwd()))  # a user's own env.id=my_package:MyEnv-v0 lies where the command is typed
    if flags == parse_flags(["--help", *flags.overrides]):  # with another flag, --help is left to Hydra
        print(help_page(config_name, overrides))
        return
    run_hydra(config_name, task, flags, overrides)


# --- exit codes ------------------------------------------------------------------------------------------------------


def _exit_code(command: Callable[[], None]) -> int:
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
