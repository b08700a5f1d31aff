"""Let `algorithm=MODULE:NAME` be an option like any other, on the command line and in files."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException

from ppolab.config.algorithms import describe_own, is_own
from ppolab.runtime.fast_imports import import_lightning, lean_imports
from ppolab.runtime.signals import heeded_interrupt

PREFIX = "algorithm/"


def know_missing_algorithm(error: MissingConfigException) -> None:
    """Import the algorithm of the user that Hydra did not find, and give it to Hydra as an option of the group.

    Raises:
        MissingConfigException: `error` itself, if it is about something else, or Hydra had the algorithm.
        ConfigError: there is no such algorithm, or its settings cannot be read.
    """
    option = str(error.missing_cfg_file)
    name = option.removeprefix(PREFIX)
    if not option.startswith(PREFIX) or not is_own(name) or _is_known(name):
        raise error
    with heeded_interrupt():
        with lean_imports():
            import_lightning()  # before the user's module imports torch in the usual way
        from ppolab.runtime.own_algorithm import described

        about = described(name)
    describe_own(name, about)
    ConfigStore.instance().store(group="algorithm", name=name, node={"algorithm": dict(about)}, package="_global_")


def forget_own_algorithms() -> None:
    """Let the next command read the algorithms of the user anew: the user may have changed and reloaded a module."""
    options = _options()
    for file in [file for file in options if is_own(file)]:
        del options[file]


def _is_known(name: str) -> bool:
    return f"{name}.yaml" in _options()


def _options() -> dict[str, Any]:
    found: dict[str, Any] = ConfigStore.instance().repo.get("algorithm", {})
    return found
