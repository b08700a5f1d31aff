"""Import PyTorch without executing the parts that only its compiler, its exporters and its quantization need.

`import torch` executes hundreds of modules that a run of the shipped networks never uses: a third of its seconds and of
the memory that is Python's. Here they are found, but executed when somebody first asks for a name in them, or imports a
module in them. Some matter only for what they register: they are executed as soon as PyTorch's compiler has been
imported. `load_deferred` executes all.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DEFERRED = (
    "torch._higher_order_ops",
    "torch._higher_order_ops.invoke_subgraph",
    "torch._meta_registrations",
    "torch.ao",
    "torch.distributions",
    "torch.export",
    "torch.func",
    "torch.masked",
    "torch.nn.intrinsic",
    "torch.nn.qat",
    "torch.nn.quantizable",
    "torch.nn.quantized",
    "torch.quantization",
    "torch.utils.flop_counter",
)
"""Modules that wait until they are used."""
PLACEHOLDERS = {
    ("torch._higher_order_ops", "cond"): "torch",
    ("torch._higher_order_ops", "while_loop"): "torch",
    ("torch._higher_order_ops.invoke_subgraph", "NestedCompileRegionOptions"): "torch.compiler",
    ("torch.func", "vmap"): "torch",
    ("torch.utils.flop_counter", "FlopCounterMode"): "pytorch_lightning.utilities.model_summary.model_summary",
}
"""Names that another module, the value, imports from a module that waits: it gets something that calls them."""
FIRST = "torch.func"
"""Comes before all others: it imports what they have in common in an order in which that can be imported."""
COMPILER = ("torch._dynamo", "torch._inductor", "torch.fx.experimental.proxy_tensor")
"""What needs all that the modules of `DEFERRED` register, and is imported after them."""


class DeferredModule(ModuleType):
    """Be a module that is executed as soon as a name in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        """Execute the module, unless the question is one of inspection, such as `hasattr(module, "__wrapped__")`."""
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if (self.__name__, name) in PLACEHOLDERS:
            return _placeholder(self, name)
        _execute(self)
        return getattr(self, name)


_lock = threading.RLock()
_waiting: list[DeferredModule] = []
_under_way: list[ModuleType] = []


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Defer what is imported inside the block; it stays deferred until it is used."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.defers = False  # but it still executes a package before a module in it


def load_deferred() -> None:
    """Execute all modules that wait, in the order of their imports."""
    with _lock:
        while _waiting:
            _execute(_waiting[0])


def is_deferred() -> bool:
    """Return whether modules wait, which means that this process runs nobody's code but ours."""
    return bool(_waiting)


def _execute(module: ModuleType) -> None:
    """Execute a module that waits, after the first of all, and after the package that it is in."""
    with _lock:
        for earlier in (FIRST, module.__name__.rpartition(".")[0]):
            if earlier != module.__name__ and isinstance(before := sys.modules.get(earlier), DeferredModule):
                _execute(before)
        if not isinstance(module, DeferredModule):
            return
        _waiting.remove(module)
        module.__class__ = ModuleType  # type: ignore[assignment]  # a waiting module no more
        assert module.__spec__ is not None
        assert module.__spec__.loader is not None
        _under_way.append(module)
        try:
            module.__spec__.loader.exec_module(module)
        finally:
            _under_way.remove(module)
        for (name, function), user in PLACEHOLDERS.items():
            if name == module.__name__ and user in sys.modules:
                setattr(sys.modules[user], function, getattr(module, function))
        if not _under_way and COMPILER[0] in sys.modules:
            load_deferred()


def _placeholder(module: ModuleType, name: str) -> type:
    def call(_: type, *arguments: Any, **named: Any) -> Any:
        _execute(module)
        return getattr(module, name)(*arguments, **named)

    return type(name, (), {"__new__": call, "__module__": module.__name__})


class _Finder(MetaPathFinder):
    """Find the modules of `DEFERRED` as modules that wait."""

    def __init__(self) -> None:
        self.defers = True

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return the specification of a module that is to wait; leave all others to the other finders."""
        if self.defers and fullname in DEFERRED:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Later(spec.loader)
            return spec
        if not self.defers and fullname in COMPILER and not _under_way:
            load_deferred()
            if (imported := sys.modules.get(fullname)) is not None:  # by one of them
                return ModuleSpec(fullname, _Imported(imported))
        package = sys.modules.get(fullname.rpartition(".")[0])
        if isinstance(package, DeferredModule):
            _execute(package)
        return None


class _Later(Loader):
    """Make a module, but leave its execution for later."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return DeferredModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, DeferredModule)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        _waiting.append(module)


class _Imported(Loader):
    """Load a module by taking the one that has meanwhile been imported."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__
        module.__spec__ = None  # else Python takes this for the answer, and executes the module again

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002  # the protocol's
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
