"""A policy that cannot be registered leaves a complete run, and a warning that helps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from small_runs import small_config

from ppolab.agents import export, trained_policy
from ppolab.errors import ExportError, PpolabError, TrackingError
from ppolab.records.run_folder import RunFolder
from ppolab.training.closing import register_best


@pytest.mark.parametrize(
    ("error", "is_told_to_try_later"),
    [(ExportError("ONNX cannot hold the network"), False), (TrackingError("the store is away"), True)],
)
def test_only_what_may_work_later_is_to_be_tried_later(
    error: PpolabError,
    is_told_to_try_later: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(trained_policy, "load_policy", lambda _: None)
    monkeypatch.setattr(export, "export_policy", fail)
    with caplog.at_level(logging.WARNING):
        register_best(small_config(), RunFolder(tmp_path), "pole", "sqlite:///nowhere.db")
    (told,) = caplog.messages
    assert told.startswith(f"the policy is not registered: {error}")
    assert ("register it later with: ppolab-export run=" in told) == is_told_to_try_later
