"""Hold what a finished run reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppolab.config.metrics import objective_names
from ppolab.config.schema import Config
from ppolab.records.run_folder import RunFolder, find_run
from ppolab.records.tracking import page_rows
from ppolab.records.wording import next_command, shown, shown_return

if TYPE_CHECKING:
    from ppolab.agents.agent import Agent


@dataclass(frozen=True)
class RunResult:
    """Hold what a finished run reports.

    Attributes:
        run_id: of the tracking run, None without one.
        metrics: the last value of every metric.
        steps: environment steps in all; new_steps: those of this call.
        seconds: of this call, from the first rollout to the last evaluation.
        best_return: the highest eval/return.
        pruned: it was stopped because other trials of its study have done better.
        page: the address of the run's page in MLflow, None without one.
    """

    config: Config
    folder: RunFolder
    run_id: str | None
    tracking_uri: str | None
    metrics: dict[str, float]
    steps: int
    new_steps: int
    seconds: float
    best_return: float
    pruned: bool
    page: str | None = None

    def agent(self, checkpoint: str = "best", seed: int = 0) -> Agent:
        """Return the trained policy, as `ppolab.load` does."""
        from ppolab.agents.agent import Agent
        from ppolab.agents.trained_policy import load_policy

        return Agent(load_policy(find_run("run", str(self.folder.path), checkpoint)), seed)

    @property
    def objectives(self) -> tuple[float, ...]:
        """The values that a sweep judges; NaN for what the run never measured."""
        return tuple(self.metrics.get(name, math.nan) for name in objective_names(self.config))

    @property
    def summary(self) -> str:
        """The closing lines for the terminal."""
        metrics = self.metrics
        evaluated = shown_return(metrics["eval/return"], metrics["eval/return_std"])
        without_id = "not tracked" if self.tracking_uri is None else "the tracking store has not told its id yet"
        rows = [
            ("run", self.run_id or without_id),
            ("steps", self._steps()),
            ("train return", self._train_return()),
            ("eval return", f"{evaluated}, best {shown(self.best_return)}"),
            ("files", str(self.folder.path)),
            ("evaluate", next_command("evaluate", "run", self.folder.path)),
        ]
        rows += page_rows(self.page, self.tracking_uri)
        return "\n".join(f"{name:<13} {value}" for name, value in rows)

    def _steps(self) -> str:
        taken = f"{self.new_steps:,} in {self.seconds:,.1f} s, {self.new_steps / self.seconds:,.0f} steps/s overall"
        return taken if self.new_steps == self.steps else f"{self.steps:,}, of these {taken}"

    def _train_return(self) -> str:
        if "train/return" not in self.metrics:
            return f"no episode ended within {self.steps:,} steps"
        return f"{shown(self.metrics['train/return'])} (mean of the latest episodes)"
