"""Run a task through Hydra with arguments that are handed over, not taken from `sys.argv`.

`hydra.main` reads `sys.argv`, prints a line of its own about every error, and returns nothing. So a run and a sweep
are started here, by the same calls; what only shows something (`--cfg`, `--info`, ...) is left to Hydra.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_hydra, create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

import ppolab
from ppolab.cli.arguments import asks_for_no_run
from ppolab.cli.hydra_guard import GuardedTask
from ppolab.config.files import config_folder, user_folder
from ppolab.config.quoting import quoted
from ppolab.config.schema import register_schemas
from ppolab.errors import ConfigError, nearest
from ppolab.records.run_folder import RunFolder

Task = Callable[[DictConfig], object]


def parse_flags(arguments: Sequence[str]) -> Namespace:
    """Return Hydra's flags by name, and the settings between them as `overrides`.

    Raises:
        ConfigError: an argument is neither a setting nor one of Hydra's flags, or two flags exclude each other.
    """
    parser = _parser()
    flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(
            f"{unknown[0]}: no such flag{nearest(unknown[0], known)}; a setting is written key=value, and --help "
            "lists them"
        )
    commands = (flags.run, flags.multirun, flags.cfg, flags.shell_completion, flags.info)
    if sum(map(bool, commands)) > 1:
        given = " ".join(argument for argument in arguments if argument.startswith("-"))
        raise ConfigError(f"{given}: Only one of --run, --multirun, --cfg, --info and --shell_completion may be given")
    if flags.resolve and not (flags.cfg or flags.help):
        raise ConfigError("--resolve: goes with --cfg or --help; add one of them, or leave it out")
    flags.config_path = os.path.abspath(flags.config_path or config_folder("conf"))  # noqa: PTH100  # no pkg://PACKAGE
    return flags


def _parser() -> ArgumentParser:
    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; --hydra-help lists the flags")

    parser = get_args_parser()
    for action in parser._actions:
        if action.dest == "version":
            action.version = f"ppolab {ppolab.__version__}, {action.version}"  # type: ignore[attr-defined]
    parser.error = refuse  # type: ignore[method-assign]  # argparse's own prints two lines and ends the process
    return parser


def run_hydra(config_name: str, task: Task, flags: Namespace, overrides: Sequence[str]) -> object:
    """Do what the command line asks for: one run of `task`, a sweep of it, or to show something.

    Returns:
        What `task` returned, of one run; else None.

    Raises:
        ConfigError, and whatever else `task` raises: in a run. A folder that a ConfigError leaves unused is removed.
    """
    if asks_for_no_run(flags):
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, instead of printing and ending the process
        register_schemas()
        version.setbase("1.3")
        flags = Namespace(**{**vars(flags), "overrides": [*overrides, *_search_path_of_the_user(overrides)]})
        _run_hydra(flags, _parser(), task, config_path=flags.config_path, config_name=config_name)
        return None
    with hydra_application(config_name, flags) as hydra:
        name = flags.config_name or config_name
        mode = RunMode.MULTIRUN if flags.multirun else RunMode.RUN
        if any("hydra.mode=" in override for override in overrides):  # Hydra has to compose all to find it
            mode = hydra.get_mode(name, list(overrides)) or mode
        complete = [*overrides, f"hydra.mode={mode.name}"]
        if mode == RunMode.MULTIRUN:
            hydra.multirun(name, GuardedTask(task), complete)
            return None
        return _finished(_run_one(hydra, name, task, complete))


def _search_path_of_the_user(overrides: Sequence[str]) -> list[str]:
    """Return the setting that makes Hydra itself look where `hydra_application` looks."""
    found = [quoted(f"file://{folder}") for folder in _folders_of_the_user()]
    given = any(override.startswith("hydra.searchpath=") for override in overrides)
    return [f"hydra.searchpath=[{','.join(found)}]"] if found and not given else []


def _folders_of_the_user() -> list[Path]:
    return [folder for folder in map(user_folder, ("conf", "sweeps")) if folder is not None]


def compose(config_name: str, flags: Namespace, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration that a run with these arguments gets, without Hydra's own part."""
    with hydra_application(config_name, flags) as hydra:
        name = flags.config_name or config_name
        node = hydra.config_loader.load_configuration(name, list(overrides), RunMode.RUN)
    with open_dict(node):
        del node["hydra"]
    return node


@contextmanager
def hydra_application(config_name: str, flags: Namespace) -> Iterator[Hydra]:
    """Yield Hydra's application object; another one that this process may have is back afterwards.

    It looks for files in ppolab's own folders, then in --config-dir, then in `conf` and `sweeps` where the command is
    typed. Those come last, so that a folder of another program that uses Hydra changes nothing here.
    """
    register_schemas()
    version.setbase("1.3")
    search_path = create_config_search_path(flags.config_path)
    if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
        raise ConfigError(f"--config-dir={flags.config_dir}: there is no such folder")
    given = [] if flags.config_dir is None else [Path(flags.config_dir).absolute()]
    for folder in (*given, *_folders_of_the_user()):
        search_path.prepend("user", f"file://{folder}", SearchPathQuery(provider="schema"))  # that one must stay last
    current = GlobalHydra.instance()
    earlier = current.hydra
    current.clear()
    try:
        yield Hydra.create_main_hydra2(config_name, search_path)
    finally:
        current.hydra = earlier


def _run_one(hydra: Hydra, config_name: str, task: Task, overrides: list[str]) -> JobReturn:
    """Do what `Hydra.run` does, but leave the error of the task to the caller."""
    config = hydra.compose_config(config_name, overrides, RunMode.RUN, with_log_configuration=True)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=config_name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    result = run_job(task, config, "hydra.run.dir", None, context)
    callbacks.on_run_end(config=config, config_name=config_name, job_return=result)
    return result


def _finished(result: JobReturn) -> object:
    """Return what the task did, or raise its error; `JobReturn.return_value` would print a line of its own first."""
    if result.status == JobStatus.COMPLETED:
        return result._return_value
    error, config = result._return_value, result.hydra_cfg
    assert isinstance(error, Exception)
    assert config is not None
    if isinstance(error, ConfigError) and config.hydra.output_subdir is not None:
        _remove_if_unused(Path(config.hydra.runtime.output_dir))
    raise error


def _remove_if_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a run, unless a run has written there."""
    if RunFolder(folder).config.exists():
        return
    for handler in logging.getLogger().handlers:
        handler.close()  # the run's log lies in the folder
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # outputs/ and the day's folder, as long as they are empty
        for parent in folder.parents:
            if Path.cwd() not in parent.parents:
                break
            parent.rmdir()
