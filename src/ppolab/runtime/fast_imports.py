"""Import heavy packages late, alone, and without garbage collection: this halves the seconds of a command's start.

All stand-ins for modules of other packages are in this file and in `deferred_imports`: optional packages that look
absent meanwhile, PyTorch's compiler, the package torchmetrics, EnvPool's families, and the marks that keep PyTorch's
optimizers from asking for the compiler. They change no result. `PPOLAB_FAST_IMPORTS=0` turns all of them off, to find
out whether one is at fault.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, version
from types import ModuleType
from typing import Any

from ppolab.runtime.deferred_imports import deferred_imports, is_deferred, load_deferred

SWITCH = "PPOLAB_FAST_IMPORTS"
"""Environment variable: 0 turns the stand-ins off."""
OPTIONAL = ("matplotlib", "scipy", "torchvision", "transformers")
"""Packages that torchmetrics imports where it finds them, for plots and metrics that no run makes.

Lightning requires torchmetrics, which works without them. With the first two, Lightning's import takes twice as long.
"""
TABLES = ("matplotlib", "pandas", "pyarrow", "scipy", "sklearn")
"""Packages that MLflow imports where it finds them, for data sets and models that no run of ours sends."""
COMPILER = "torch._dynamo"
LIGHTNING = ("pytorch_lightning", "lightning_fabric")
METRICS = "torchmetrics"
DEFERRED_IN = "2.13."
"""The versions of PyTorch whose modules may be deferred: others may need them in another order."""


def enabled() -> bool:
    """Return whether the stand-ins may be used."""
    return os.environ.get(SWITCH) != "0"


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import without the garbage collector, and without the `OPTIONAL` packages that nobody has imported yet.

    Inside the block these packages look as if they were not installed; afterwards everybody can import them.
    """
    if not enabled():
        yield
        return
    loaded = len(sys.modules)
    try:
        with without_packages(OPTIONAL), without_collector():
            yield
    finally:
        if len(sys.modules) > loaded:  # not in the later runs of a sweep, whose garbage would stay with the modules
            gc.freeze()


@contextmanager
def without_packages(names: Iterable[str]) -> Iterator[None]:
    """Let packages that nobody has imported yet look as if they were not installed, to this thread in the block."""
    absent = _Absent(name for name in names if name not in sys.modules)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


@contextmanager
def lean_mlflow() -> Iterator[None]:
    """Let MLflow be imported without `TABLES`, as mlflow-skinny is; but whole beside code that is not ours."""
    with without_packages(TABLES if enabled() and is_deferred() else ()):
        yield


@contextmanager
def stand_in(module: ModuleType) -> Iterator[None]:
    """Let `module` be what an import of its name finds inside the block; the real one can be imported after it."""
    if not enabled() or module.__name__ in sys.modules:
        yield
        return
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]


def import_lightning(*, whole: bool = False) -> None:
    """Import Lightning without PyTorch's compiler, which is a third of all imports and which few runs need.

    Lightning wants two names of it. A stand-in has them meanwhile; whoever needs the compiler imports it later. The
    same goes for what `deferred_imports` leaves out of PyTorch, and for the metrics of torchmetrics.

    Args:
        whole: PyTorch is imported whole, for code that is not ppolab's.
    """
    if not enabled() or COMPILER in sys.modules:
        return
    with _pytorch_deferred(), stand_in(_Compiler(COMPILER)), _without_metrics():
        try:
            importlib.import_module(LIGHTNING[0])
        except Exception:  # a version that wants more of it is imported, or fails by itself, where it is needed
            for name in [name for name in sys.modules if name.partition(".")[0] in LIGHTNING]:
                del sys.modules[name]
    _leave_optimizers_alone()
    if whole:
        load_deferred()


@contextmanager
def _pytorch_deferred() -> Iterator[None]:
    """Defer parts of PyTorch inside the block, where this is known to work, and where nobody has imported it yet."""
    if "torch" in sys.modules or not version("torch").startswith(DEFERRED_IN):
        yield
        return
    with deferred_imports():
        torch = importlib.import_module("torch")
        base = importlib.import_module("torch._opaque_base")
        torch._C._set_generator_metaclass(
            base.OpaqueBaseMeta
        )  # as one of the deferred modules would: it may be repeated
        yield


@contextmanager
def _without_metrics() -> Iterator[None]:
    """Let torchmetrics be the two classes that Lightning wants of it, without its 250 modules of metrics.

    A package in which nothing has been executed stands in for it meanwhile; the real one can be imported afterwards.
    """
    spec = None if METRICS in sys.modules else importlib.util.find_spec(METRICS)
    if spec is None:
        yield
        return
    package: Any = importlib.util.module_from_spec(spec)
    package._logger = logging.getLogger(METRICS)
    with stand_in(package):
        try:
            importlib.import_module(f"{METRICS}.utilities")  # which must come before the two, as in the package
            package.Metric = importlib.import_module(f"{METRICS}.metric").Metric
            package.MetricCollection = importlib.import_module(f"{METRICS}.collections").MetricCollection
        except Exception:  # a version that is laid out otherwise
            del sys.modules[METRICS]
        yield


def _leave_optimizers_alone() -> None:
    """Let the first optimizer be made without the compiler, which is asked not to compile the making of optimizers.

    It answers once for each function and leaves its answer there; where it is not looked for, this does nothing.
    """
    from torch.optim import Optimizer

    for method in vars(Optimizer).values():
        function = getattr(method, "__wrapped__", None)
        if function is not None and not hasattr(function, "__dynamo_disable"):
            setattr(function, "__dynamo_disable", function)


@contextmanager
def without_collector() -> Iterator[None]:
    """Stop the garbage collector, which else searches all modules again and again: a tenth of the import time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Absent(MetaPathFinder):
    """Answer, ahead of the other finders, that some packages are not installed."""

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages = frozenset(packages)
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise for the packages and their modules; leave all others to the other finders."""
        if fullname.partition(".")[0] in self._packages and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Raise for a question after the installed version."""
        if context.name in self._packages and threading.get_ident() == self._thread:
            raise PackageNotFoundError(context.name)
        return ()


class _CompiledModules(type):
    """Answer, for the stand-in's class, whether a module was compiled."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Ask the compiler's own class; as long as nobody imported it nothing is compiled."""
        compiler = sys.modules.get(COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _Compiler(ModuleType):
    """Stand in for `COMPILER` with the names that Lightning wants of it at its import."""

    class OptimizedModule(metaclass=_CompiledModules):
        """Stand in, in `isinstance`, for the class of compiled modules."""

    @staticmethod
    def disable(function: Any = None, *_: object, **__: object) -> Any:
        """Return `function` unchanged: it is bookkeeping of Lightning's, and no part of what ppolab compiles."""
        return function if function is not None else lambda decorated: decorated
