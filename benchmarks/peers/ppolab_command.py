"""ppolab's own command line in this process, with something to be done around its iterations."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

if TYPE_CHECKING:
    from ppolab.module import PPOModule

DISTRIBUTIONS = ("torch", "pytorch-lightning", "numpy", "gymnasium", "mujoco", "envpool")


def after_iterations(call: Callable[[PPOModule], None]) -> None:
    """`call` the module at the end of every training step: before the evaluation that may follow."""
    from ppolab.module import PPOModule

    original = PPOModule.training_step

    @functools.wraps(original)
    def watched(self: PPOModule, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        call(self)
        return result

    PPOModule.training_step = watched  # type: ignore[method-assign]


def before_first_step(call: Callable[[], None]) -> None:
    """`call` when everything is imported and built, and the environments are about to be reset and stepped."""
    from ppolab.module import PPOModule

    original = PPOModule.on_fit_start

    @functools.wraps(original)
    def watched(self: PPOModule) -> None:
        call()
        original(self)

    PPOModule.on_fit_start = watched  # type: ignore[method-assign]


def train(overrides: list[str]) -> int:
    """What `python src/train.py OVERRIDES` does; its exit code."""
    from ppolab.cli import train as command

    sys.argv = ["train.py", *overrides]
    try:
        command()
    except SystemExit as stop:
        return int(stop.code or 0)
