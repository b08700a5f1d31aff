"""Let `algorithm=MODULE:NAME` be an option like any other."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from ppolab.config.algorithms import describe_own, is_own
from ppolab.runtime.fast_imports import import_lightning, lean_imports
from ppolab.runtime.signals import heeded_interrupt


def know_own_algorithms(overrides: Sequence[str]) -> None:
    """Import the algorithms of the user that the command line names, and give them to Hydra as options of the group.

    Raises:
        ConfigError: there is no such algorithm, or its settings cannot be read.
    """
    chosen = [override.partition("=")[2] for override in overrides if override.partition("=")[0] == "algorithm"]
    for name in (each.strip() for values in chosen for each in values.split(",")):
        if is_own(name):
            _know(name)


def _know(name: str) -> None:
    with heeded_interrupt():
        with lean_imports():
            import_lightning()  # before the user's module imports torch in the usual way
        from ppolab.runtime.own_algorithm import described

        about = described(name)
    describe_own(name, about)
    ConfigStore.instance().store(group="algorithm", name=name, node={"algorithm": dict(about)}, package="_global_")
