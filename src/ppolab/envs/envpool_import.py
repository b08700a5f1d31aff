"""Import EnvPool without the libraries of the families that a run does not use."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from ppolab.runtime.fast_imports import stand_in

EVERYTHING = "envpool.entry"
"""The module of EnvPool that imports all families."""
USUAL = ("envpool.mujoco.gym", "envpool.classic_control")
"""The families that simulate most of Gymnasium's own tasks."""


def imported_envpool() -> ModuleType:
    """Import EnvPool with all its ids, but without the C++ libraries of its families; return it.

    The libraries cost a second of processor time and 75 MB, import Matplotlib and change its environment variables. A
    family's module `registration` holds the ids and needs nothing else; so packages that are not executed stand in for
    the families while these modules are imported. EnvPool imports a family when one of its environments is made.
    Should a version of EnvPool be laid out otherwise, it is imported in full.
    """
    with quiet():
        with stand_in(ModuleType(EVERYTHING)):
            import envpool

            laid_out_otherwise = False
            try:
                _import_ids(envpool)
            except Exception:
                laid_out_otherwise = True
        if laid_out_otherwise:
            importlib.import_module(EVERYTHING)
    return envpool


def import_usual() -> None:
    """Import the libraries of the usual families, for processes that are forked and then need not."""
    with quiet(), contextlib.suppress(Exception):  # without EnvPool, or with a broken one, there is nothing to import
        imported_envpool()
        for name in USUAL:
            importlib.import_module(name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings of EnvPool's import, environments and spaces about the precision of its own Box bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _import_ids(envpool: ModuleType) -> None:
    """Import the module `registration` of every family.

    Raises:
        Exception: one of them needs more than it says, or no family has one.
    """
    folder = Path(envpool.__path__[0])
    for file in sorted(folder.glob("**/registration.py")):
        family = file.parent.relative_to(folder).parts
        if family:
            with _bare_packages("envpool", family):
                importlib.import_module(".".join(("envpool", *family, file.stem)))
    if not envpool.list_all_envs():
        raise ImportError("no family has registered an id")


@contextlib.contextmanager
def _bare_packages(outer: str, inner: Sequence[str]) -> Iterator[None]:
    """Let packages in which nothing has been executed stand in for `outer.inner[0]`, `outer.inner[0].inner[1]`, ..."""
    with contextlib.ExitStack() as stack:
        for name in inner:
            outer = f"{outer}.{name}"
            spec = importlib.util.find_spec(outer)
            if spec is not None:
                stack.enter_context(stand_in(importlib.util.module_from_spec(spec)))
        yield
