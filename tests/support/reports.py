"""What runs report to their study."""

from __future__ import annotations

from pathlib import Path

import probe_envs  # noqa: F401
from helpers import tiny_config

from ppolab.training.run import run
from ppolab.training.trial import TrialOfStudy

Reports = list[tuple[int, float]]


def reports_of(
    folder: Path, *, interval: int, seed: int = 0, stop_after: int = 99, objective: str = "eval/return"
) -> Reports:
    """What a run of 640 steps reports, of which 32 and fewer make an iteration; episodes end after 3, 7 or 5 steps."""
    config = tiny_config(
        "probe/Diary-v0", env_kwargs={"lengths": [3 + seed, 7, 5]}, seed=seed, total_steps=640, eval_interval=interval,
        eval_episodes=1, logger="none", objective=objective,
    )  # fmt: skip
    told: Reports = []

    def report(step: int, value: float) -> bool:
        told.append((step, value))
        return len(told) >= stop_after

    result = run(config, folder, trial=TrialOfStudy(report, "trial"))
    assert result is not None and result.pruned == (len(told) >= stop_after)
    return told
