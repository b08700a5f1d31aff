"""The user's callbacks go on from their own states."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_callbacks
from small_runs import run_small, small_config

from ppolab.errors import CallbackError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun
from ppolab.training import run


def test_a_callback_goes_on_counting_after_a_resume(tmp_path: Path) -> None:
    sample_callbacks.COUNTED.clear()
    small = {"callbacks": ["sample_callbacks:Counts"], "eval_interval": 0, "eval_episodes": 1}
    first = run_small(tmp_path, **small, total_steps=192)
    stored = load_checkpoint(first.folder.checkpoint("last")).module["callbacks"]
    before = len(sample_callbacks.COUNTED)
    assert before >= 2 and stored == {"Counts": {"count": before}}
    longer = small_config(logger="none", **small, total_steps=320)
    run.run(longer, tmp_path, FoundRun(first.folder, first.folder.checkpoint("last")))
    assert sample_callbacks.COUNTED[before] == before + 1
    assert list(range(1, len(sample_callbacks.COUNTED) + 1)) == sample_callbacks.COUNTED


def test_a_state_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallbackError, match=r"Unstorable\.state_dict: must hold numbers"):
        run_small(tmp_path, callbacks=["sample_callbacks:Unstorable"], total_steps=64, eval_episodes=1)
