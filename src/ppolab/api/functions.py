"""Train, load, compose and report from Python, by the settings of the commands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppolab.api.caller import called_from_python, numbers_kept
from ppolab.cli.arguments import asks_for_no_run
from ppolab.cli.commands import checked_flags, composed, run_report, run_training
from ppolab.cli.jobs import reported, tell_of_rerun, trained
from ppolab.config.schema import Config
from ppolab.errors import ConfigError
from ppolab.records.run_folder import find_run
from ppolab.runtime.fast_imports import lean_imports
from ppolab.runtime.ranks import started_as_another_rank
from ppolab.runtime.signals import heeded_interrupt
from ppolab.training.result import RunResult

if TYPE_CHECKING:
    from ppolab.agents.agent import Agent
    from ppolab.reports.make_report import Report

CHECKPOINTS = ("best", "last")


def train(settings: Sequence[str] = ()) -> RunResult:
    """Train one run, as `ppolab-train SETTINGS` does, and return its result.

    The run's files go to the folder `outputs` below the current one. The caller's random generators, threads, logging,
    signals and environment variables are as before afterwards. Ctrl-C ends the run after its iteration; once more, at
    once.

    Args:
        settings: what the command takes, such as `["env=hopper", "clip=0.1"]`.

    Raises:
        ConfigError: a setting is wrong, or -m asks for a sweep; the message is one line.
        InterruptedRun: Ctrl-C or SIGTERM; everything is saved.
        KeyboardInterrupt: Ctrl-C twice; what came after the last checkpoint is lost.
        RerunError: the run was to make another one again, and has other metrics.
        PpolabError: an environment, a callback, or training itself failed; see `ppolab.errors`.
    """
    with called_from_python():
        _refuse_all_but_a_run(settings)
        with numbers_kept():
            result = run_training(settings, partial(trained, own_process=False))
    assert isinstance(result, RunResult)
    tell_of_rerun(result)
    return result


def load(run: str | Path, checkpoint: str = "best", seed: int = 0) -> Agent:
    """Return the trained policy of a run.

    Args:
        run: an MLflow run id or its first digits, a run's name, a run folder, a checkpoint file, or
            `models:/NAME/VERSION` or `models:/NAME@ALIAS` of MLflow's registry.
        checkpoint: `best` (by eval/return) or `last`; a checkpoint file names its own.
        seed: of the actions that `act(deterministic=False)` draws.

    Raises:
        ConfigError: there is no such run, or its environment cannot be made here.
        CheckpointError: the checkpoint cannot be read.
    """
    with called_from_python():
        if checkpoint not in CHECKPOINTS:
            raise ConfigError(f"checkpoint={checkpoint}: must be one of {', '.join(CHECKPOINTS)}")
        found = find_run("run", str(run), checkpoint)
        with heeded_interrupt(), lean_imports():
            from ppolab.agents.agent import Agent
            from ppolab.agents.trained_policy import load_policy
        return Agent(load_policy(found), seed)


def compose(settings: Sequence[str] = ()) -> Config:
    """Return the checked configuration that `train(settings)` would run.

    Raises:
        ConfigError: a setting is wrong; the message is one line.
    """
    with called_from_python():
        _refuse_all_but_a_run(settings)
        return composed(settings)


def report(settings: Sequence[str] = ()) -> Report:
    """Compare runs, as `ppolab-report SETTINGS` does: write tables and figures, and return them.

    Raises:
        ConfigError: a setting is wrong, or there is nothing to compare; the message is one line.
        TrackingError: the store does not answer.
    """
    with called_from_python():
        _refuse_all_but_a_run(settings, "report")
        result: Any = run_report(settings, reported)
    return result  # type: ignore[no-any-return]


def _refuse_all_but_a_run(settings: Sequence[str], config_name: str = "config") -> None:
    """Refuse what is no list of settings for one run, or one report."""
    if isinstance(settings, str):
        raise ConfigError(f"{settings}: settings are a list of texts; write [{settings!r}]")
    for setting in settings:
        if not isinstance(setting, str):
            raise ConfigError(f"{setting}: settings are texts, such as 'env=hopper'")
    shows = [text for text in settings if text in ("-h", "--help", "--hydra-help", "--version")]
    flags = checked_flags([text for text in settings if text not in shows], config_name)
    if flags.multirun or any(text.lstrip("+").startswith("hydra.mode=") for text in settings):
        raise ConfigError(
            "-m: ppolab.train makes one run; call it for each of them, or type the sweep as a command (ppolab-train -m)"
        )
    if shows or asks_for_no_run(flags):
        flag = next(iter(shows), "") or next(text for text in settings if text.startswith("-"))
        raise ConfigError(
            f"{flag}: only shows something; leave it out, or type it after ppolab-{_command(config_name)}"
        )
    if config_name == "config" and started_as_another_rank():
        raise ConfigError(
            "ppolab.train: starts the processes of a run itself; start one process, without torchrun or srun"
        )


def _command(config_name: str) -> str:
    return "train" if config_name == "config" else config_name
