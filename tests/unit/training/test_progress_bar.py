"""What the terminal shows while a run trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ppolab.training.progress_bar import ProgressBar

METRICS = {"train/return": 12.5, "loss/policy": -0.01, "policy/kl": 0.0125, "time/steps_per_second": 1000.0}


@pytest.mark.parametrize(("kind", "lines"), [("full", 2), ("bar", 0), ("off", 0)])
def test_full_prints_a_heading_and_a_line(kind: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    bar, module = ProgressBar(4096, 0, kind), SimpleNamespace(steps=2048)
    none: Any = None
    for _ in range(2):  # the second one comes within two seconds
        bar.after_iteration(none, module, METRICS)  # type: ignore[arg-type]
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    if printed:
        assert printed[0].split()[:2] == ["steps", "return"]
        assert printed[1].split() == ["2,048", "12.5", "-0.01", "-", "0.0125", "-", "-", "-"]
