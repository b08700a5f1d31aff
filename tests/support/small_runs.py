"""Whole runs of a few iterations in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import make_config

from ppolab.config.schema import Config
from ppolab.training import run
from ppolab.training.result import RunResult

SMALL: dict[str, Any] = {
    "env": "pendulum", "env.backend": "gymnasium", "num_envs": 4, "rollout_steps": 16, "minibatch_size": 16,
    "epochs": 3, "total_steps": 2000, "optimizer.lr": 0.01, "model.hidden_sizes": [16, 16], "compile": "false",
    "target_kl": None, "env.num_threads": 1,
}  # fmt: skip


def small_config(**changes: Any) -> Config:
    return make_config(**(SMALL | changes))


def run_small(folder: Path, **changes: Any) -> RunResult:
    settings = {"logger": "none", "total_steps": 640, "eval_interval": 200, "eval_episodes": 2, **changes}
    return run.run(small_config(**settings), folder)
