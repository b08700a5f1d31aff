"""Callbacks as a user writes them, for `callbacks=[sample_callbacks:NAME]`."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytorch_lightning as pl

from ppolab.training.module import OnPolicyModule


class Diary(pl.Callback):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(module, OnPolicyModule) and trainer.lightning_module is module
        self.seen.append((module.steps, dict(outputs)))


class StopAtLength(pl.Callback):
    """Stops a run whose episodes have a mean length of 3 or more: in Diary environments, at once."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop = trainer.should_stop or outputs["train/length"] >= 3


class StopOfOneRank(pl.Callback):
    """Stops after the second iteration, but says so in the second rank only."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.group.rank == 1 and batch_idx == 1:
            trainer.should_stop = True


class Breaks(pl.Callback):
    """Raises."""

    def on_train_batch_end(self, *_: Any) -> None:
        raise LookupError("no such lesson\nin this curriculum")


class InterruptInTraining(pl.Callback):
    """Ctrl-C after the first iteration."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            os.kill(os.getpid(), signal.SIGINT)


class InterruptAtTheEnd(pl.Callback):
    """Ctrl-C when the last checkpoint is written."""

    def on_train_end(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class NeedsArgument(Diary):
    """Cannot be made without an argument."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class NoCallback:
    """Is of no use here."""


diary = Diary()


class Counts(pl.Callback):
    """Counts iterations, over a resume too."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.count += 1
        COUNTED.append(self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


COUNTED: list[int] = []


class Unstorable(pl.Callback):
    """Gives a state that no checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"self": self}


class OtherArguments(pl.Callback):
    """Asks for the arguments in `CHANGES` after the second iteration, and notes which ones are in force."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        IN_FORCE.append(module.env_kwargs)
        if module.iteration == 2:
            module.change_env_kwargs(CHANGES)


class ShortFromTheStart(pl.Callback):
    """Asks before the first iteration for episodes of two steps."""

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        module.change_env_kwargs({"lengths": [2]})


class ShortOnTheFirstRank(pl.Callback):
    """Asks for episodes of five steps, on the first rank only."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.group.is_first:
            module.change_env_kwargs({"max_episode_steps": 5})


CHANGES: dict[str, Any] = {}
IN_FORCE: list[dict[str, Any]] = []
