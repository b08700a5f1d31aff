"""What a run tells the study that it is a trial of."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import probe_envs  # noqa: F401
import pytest
from reports import reports_of

from ppolab.records.metrics_file import read_metrics


def test_an_iteration_that_passes_two_multiples_reports_the_later(tmp_path: Path) -> None:
    steps = [step for step, _ in reports_of(tmp_path, interval=10)]
    assert steps == sorted(set(steps))
    assert all(step % 10 == 0 for step in steps)
    assert all(later - earlier >= 20 for earlier, later in pairwise(steps))


def test_the_last_evaluation_is_no_reason_to_stop(tmp_path: Path) -> None:
    assert reports_of(tmp_path, interval=0) == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_is_to_stop_does(count: int, tmp_path: Path) -> None:
    assert [step for step, _ in reports_of(tmp_path, interval=150, stop_after=count)] == [150, 300][:count]


def test_the_value_is_the_objective(tmp_path: Path) -> None:
    (_, value), *_ = reports_of(tmp_path, interval=150, objective="loss/value", stop_after=1)
    row = [row for row in read_metrics(tmp_path / "metrics.csv") if "loss/value" in row][-1]
    assert value == row["loss/value"]
