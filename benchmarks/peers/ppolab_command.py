"""ppolab's own command line in this process, with something to be done around its iterations."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

if TYPE_CHECKING:
    from ppolab.training.module import OnPolicyModule

DISTRIBUTIONS = ("torch", "pytorch-lightning", "numpy", "gymnasium", "mujoco", "envpool")


def import_as_the_command() -> None:
    """Import PyTorch and Lightning as the command does, which leaves out what a run does not need."""
    from ppolab.runtime.fast_imports import import_lightning, lean_imports

    with lean_imports():
        import_lightning()


def after_iterations(call: Callable[[OnPolicyModule], None]) -> None:
    """`call` the module at the end of every training step: before the evaluation that may follow."""
    module = _module_class()
    original = module.training_step

    @functools.wraps(original)
    def watched(self: OnPolicyModule, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        call(self)
        return result

    module.training_step = watched  # type: ignore[method-assign]


def before_first_step(call: Callable[[], None]) -> None:
    """`call` when everything is imported and built, and the environments are about to be stepped."""
    module = _module_class()
    original = module.start

    @functools.wraps(original)
    def watched(self: OnPolicyModule, *args: Any, **kwargs: Any) -> None:
        call()
        original(self, *args, **kwargs)

    module.start = watched  # type: ignore[method-assign]


def _module_class() -> type[OnPolicyModule]:
    from ppolab.runtime.fast_imports import lean_imports

    import_as_the_command()
    with lean_imports():
        from ppolab.training.module import OnPolicyModule
    return OnPolicyModule


def train(overrides: list[str]) -> int:
    """What `python src/train.py OVERRIDES` does; its exit code."""
    from ppolab.cli.commands import train as command

    sys.argv = ["train.py", *overrides]
    try:
        command()
    except SystemExit as stop:
        return int(stop.code or 0)
