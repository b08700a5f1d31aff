"""Whole runs report to their study at equal steps."""

from __future__ import annotations

from pathlib import Path

import probe_envs  # noqa: F401
from reports import reports_of

from ppolab.records.metrics_file import read_metrics


def test_runs_whose_episodes_end_anywhere_report_at_the_same_steps(tmp_path: Path) -> None:
    steps, evaluated = [], set()
    for seed in (0, 1, 2):
        folder = tmp_path / str(seed)
        steps.append([step for step, _ in reports_of(folder, interval=150, seed=seed)])
        evaluated.add(tuple(row["step"] for row in read_metrics(folder / "metrics.csv") if "eval/return" in row))
    assert len(evaluated) == 3, "they are evaluated at steps of their own"
    assert steps == [[150, 300, 450, 600]] * 3
