"""Callbacks, wrappers and entries of info of the user in a run of two ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

from commands import ROOT, TINY, metric_rows, series, train
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import RunFolder


def test_a_stop_changes_of_the_environment_and_entries_of_info_are_those_of_both_ranks(tmp_path: Path) -> None:
    for name in ("sample_callbacks", "sample_wrappers"):
        shutil.copy(ROOT / f"tests/support/{name}.py", tmp_path)
    callbacks = "sample_callbacks:ShortOnTheFirstRank,sample_callbacks:StopOfOneRank"
    answer = train(
        tmp_path, "env=cartpole", "trainer=ddp", "trainer.devices=2", "trainer.threads=1", *TINY, "total_steps=2560",
        "logger=none", "logger.video=false", "hydra.run.dir=run", f"callbacks=[{callbacks}]",
        "env.wrappers=[sample_wrappers:Doubled]", "env.log_info=[total]",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = metric_rows(tmp_path / "run")
    assert len([row for row in rows if row["loss/value"]]) == 2
    assert rows[-1]["eval/return"]
    state = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt").module
    assert state["iteration"] == 2 and len(state["collectors"]) == 2
    assert RunFolder(tmp_path / "run").is_finished
    assert state["env_kwargs"] == {"max_episode_steps": 5}
    lengths = list(series(tmp_path / "run", "train/length").values())
    assert lengths[0] > 5 == lengths[1], "of both ranks, after the first iteration"
    totals = series(tmp_path / "run", "env/total")
    assert len(totals) == 2 and totals == series(tmp_path / "run", "train/return"), "of the episodes of both ranks"
