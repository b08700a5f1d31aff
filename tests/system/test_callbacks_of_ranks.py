"""A callback of the user in a run of two ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

from commands import ROOT, TINY, metric_rows, train
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import RunFolder


def test_a_stop_that_one_rank_asks_for_is_one_of_both(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/support/sample_callbacks.py", tmp_path)
    answer = train(
        tmp_path, "env=cartpole", "trainer=ddp", "trainer.devices=2", "trainer.threads=1", *TINY, "total_steps=2560",
        "logger=none", "logger.video=false", "hydra.run.dir=run", "callbacks=[sample_callbacks:StopOfOneRank]",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = metric_rows(tmp_path / "run")
    assert len([row for row in rows if row["loss/value"]]) == 2
    assert rows[-1]["eval/return"]
    state = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt").module
    assert state["iteration"] == 2 and len(state["collectors"]) == 2
    assert RunFolder(tmp_path / "run").is_finished
