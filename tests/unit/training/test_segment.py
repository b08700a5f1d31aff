"""Segments of a member's training: one after another they are one run; a copy goes on from another member's state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small_config

from ppolab.errors import CheckpointError
from ppolab.records.checkpoint import Checkpoint, load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.training import run
from ppolab.training.result import RunResult
from ppolab.training.segment import as_copied, checkpoint_of_segment
from ppolab.training.trial import Segment, TrialOfStudy

WHOLE, HALF = 640, 320


def train(folder: Path, segment: Segment | None, **changes: Any) -> RunResult:
    settings = {"logger": "none", "total_steps": WHOLE, "eval_interval": 0, "eval_episodes": 2, **changes}
    trial = None if segment is None else TrialOfStudy(lambda _step, _value: False, "member", segment=segment)
    result = run.run(small_config(**settings), folder, trial=trial)
    assert result is not None
    return result


def last(folder: Path) -> Checkpoint:
    return load_checkpoint(RunFolder(folder).checkpoint("last"))


def training_rows(folder: Path) -> list[dict[str, float]]:
    rows = read_metrics(RunFolder(folder).metrics)
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "eval/"))}
        for row in rows
        if "loss/policy" in row
    ]


def same(first: Any, second: Any) -> bool:
    """Whether two states hold the same numbers."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two segments, `first` and `second`."""
    folder = tmp_path_factory.mktemp("halves")
    assert train(folder / "first", Segment(HALF)).steps < WHOLE
    train(folder / "second", Segment(WHOLE, RunFolder(folder / "first").checkpoint("last")))
    return folder


def test_segments_are_together_what_one_run_is(halves: Path, tmp_path: Path) -> None:
    train(tmp_path, None)
    assert training_rows(halves / "first") + training_rows(halves / "second") == training_rows(tmp_path)
    assert same(last(halves / "second").module["policy"], last(tmp_path).module["policy"])
    assert same(last(halves / "second").module["optimizer"], last(tmp_path).module["optimizer"])


def test_a_segment_ends_with_the_iteration_that_passes_its_end(halves: Path) -> None:
    steps = [row["step"] for row in training_rows(halves / "first")]
    assert steps[-2] < HALF <= steps[-1] == last(halves / "first").module["steps"]
    assert [row for row in read_metrics(RunFolder(halves / "first").metrics) if "eval/return" in row][-1][
        "step"
    ] == steps[-1], "it is evaluated at its end"


def test_the_learning_rate_falls_over_the_whole_run(halves: Path) -> None:
    rows = training_rows(halves / "second")
    begun = last(halves / "first").module["steps"]
    assert rows[0]["optim/lr"] == pytest.approx(0.01 * (1 - begun / WHOLE))


def test_a_segment_heeds_other_settings(halves: Path, tmp_path: Path) -> None:
    start = RunFolder(halves / "first").checkpoint("last")
    train(tmp_path, Segment(WHOLE, start), **{"optimizer.lr": 0.02})
    fast, slow = training_rows(tmp_path), training_rows(halves / "second")
    assert fast[0]["optim/lr"] == pytest.approx(2 * slow[0]["optim/lr"])
    assert fast[-1] != slow[-1]


def test_a_copy_goes_on_from_the_state_with_random_numbers_of_its_own(halves: Path, tmp_path: Path) -> None:
    start = RunFolder(halves / "first").checkpoint("last")
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        train(tmp_path / name, Segment(WHOLE, start, copied=True), seed=seed)
    one, again, other = (training_rows(tmp_path / name) for name in ("one", "again", "other"))
    own = training_rows(halves / "second")
    assert one == again
    assert one[0]["optim/lr"] == other[0]["optim/lr"] == own[0]["optim/lr"], "the counters are copied"
    assert len({rows[-1]["loss/policy"] for rows in (one, other, own)}) == 3


def test_what_is_copied_and_what_is_not(halves: Path) -> None:
    state = last(halves / "first").module
    copied = as_copied(state)
    assert {key for key in state if not same(state[key], copied[key])} == {"random", "collectors"}
    assert copied["collectors"] == [None]


def test_a_segment_belongs_to_no_earlier_tracking_run(halves: Path) -> None:
    start = RunFolder(halves / "first").checkpoint("last")
    found = checkpoint_of_segment(Segment(WHOLE, start))
    assert found is not None
    assert found == replace(found, run_id=None, best_return=None)
    assert checkpoint_of_segment(Segment(WHOLE)) is None


def test_a_checkpoint_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.ckpt: .* is not here; machines that share a population"):
        checkpoint_of_segment(Segment(WHOLE, tmp_path / "last.ckpt"))
