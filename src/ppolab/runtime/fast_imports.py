"""What keeps a command's first seconds few: heavy packages are imported late, alone, and without garbage collection."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError
from types import ModuleType
from typing import Any

OPTIONAL = ("matplotlib", "scipy", "torchvision", "transformers")
"""What torchmetrics, which Lightning requires, imports where it is installed, for plots and metrics that no run makes.

They are extras of torchmetrics, which works without; importing Lightning with the first two takes twice as long.
"""

COMPILER = "torch._dynamo"
LIGHTNING = ("pytorch_lightning", "lightning_fabric")


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import without `OPTIONAL` packages that nobody has imported yet, and without the garbage collector.

    Inside, these packages look as if they were not installed; afterwards everybody can import them.
    """
    loaded = len(sys.modules)
    absent = _Absent(name for name in OPTIONAL if name not in sys.modules)
    sys.meta_path.insert(0, absent)
    try:
        with without_collector():
            yield
    finally:
        sys.meta_path.remove(absent)
        if len(sys.modules) > loaded:  # not in the later runs of a sweep, whose garbage would stay with the modules
            gc.freeze()


def import_lightning() -> None:
    """Import Lightning without PyTorch's compiler, a third of all imports, which the shipped default never needs.

    Lightning wants two names of it. A stand-in has them meanwhile; whoever needs the compiler imports it later.
    """
    if COMPILER in sys.modules:
        return
    stand_in = sys.modules[COMPILER] = _StandIn(COMPILER)
    try:
        importlib.import_module(LIGHTNING[0])
    except Exception:  # a version that wants more of it is imported, or fails with its own error, where it is needed
        for name in [name for name in sys.modules if name.partition(".")[0] in LIGHTNING]:
            del sys.modules[name]
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]
    _leave_optimizers_alone()


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
    """Else it would search all that was imported so far again and again, although that stays: a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def heeded_interrupt() -> Iterator[None]:
    """Ctrl-C or SIGTERM end the block for certain: some packages swallow what is raised while they are imported."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    asked = threading.Event()

    def interrupt(*_: object) -> None:
        asked.set()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if asked.is_set():  # a package that was left half imported
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if asked.is_set():
        raise KeyboardInterrupt


class _Absent(MetaPathFinder):
    """Answers, ahead of the other finders, that some packages are not installed."""

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages = frozenset(packages)

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise for the packages and their modules; of all others it knows nothing."""
        if fullname.partition(".")[0] in self._packages:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """The same for who asks after the installed version."""
        if context.name in self._packages:
            raise PackageNotFoundError(context.name)
        return ()


class _CompiledModules(type):
    """Of the class that Lightning asks whether a module was compiled."""

    def __instancecheck__(cls, instance: object) -> bool:
        """As the compiler's own class answers; as long as nobody imported it nothing is compiled."""
        compiler = sys.modules.get(COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _StandIn(ModuleType):
    """Has what Lightning, as it is imported, wants of `COMPILER`."""

    class OptimizedModule(metaclass=_CompiledModules):
        """What `torch.compile` makes of a module, for `isinstance`."""

    @staticmethod
    def disable(function: Any = None, *_: object, **__: object) -> Any:
        """`function`, not to be compiled: bookkeeping of Lightning's, which is never part of what ppolab compiles."""
        return function if function is not None else lambda decorated: decorated
