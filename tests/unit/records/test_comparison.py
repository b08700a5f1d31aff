"""Two metrics files, compared number by number."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppolab.records.comparison import Comparison, Difference, compare_metrics

BEFORE = "step,loss/value,eval/return,time/total\n10,0.5,,1\n20,0.25,,2\n20,,7.0,\n"


def compare(folder: Path, before: str, now: str) -> Comparison:
    (folder / "before.csv").write_text(before)
    (folder / "now.csv").write_text(now)
    return compare_metrics(folder / "before.csv", folder / "now.csv")


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (BEFORE, None),
        (BEFORE.replace(",2\n", ",9\n"), None),  # seconds
        (BEFORE.replace("0.25", "0.250"), None),
        (BEFORE.replace("0.25", "0.2500000001"), Difference(20, "loss/value", 0.25, 0.2500000001)),
        (BEFORE.replace("20,,7.0", "20,,8.0"), Difference(20, "eval/return", 7.0, 8.0)),
        (BEFORE.replace("20,,7.0,\n", ""), Difference(20, "eval/return", 7.0, None)),
        (BEFORE.replace("10,0.5", "11,0.5"), Difference(10, "loss/value", 0.5, None)),
    ],
)
def test_the_first_difference_is_found(tmp_path: Path, now: str, difference: Difference | None) -> None:
    found = compare(tmp_path, BEFORE, now)
    assert found.difference == difference
    if difference is None:
        assert (found.values, found.up_to, found.same_length) == (3, 20, True)


def test_not_a_number_equals_itself(tmp_path: Path) -> None:
    text = "step,loss/value\n10,nan\n"
    assert compare(tmp_path, text, text).difference is None


def test_a_run_that_ended_earlier_is_compared_up_to_there(tmp_path: Path) -> None:
    """It was evaluated where it ended, and the other one was not."""
    found = compare(tmp_path, BEFORE, "step,loss/value,eval/return\n10,0.5,\n20,0.25,\n30,0.1,\n30,,9\n")
    assert (found.difference, found.values, found.up_to, found.same_length) == (None, 2, 20, False)


def test_metrics_of_another_version_are_named_and_not_compared(tmp_path: Path) -> None:
    found = compare(tmp_path, "step,a,b\n1,0.5,1\n", "step,a,c\n1,0.5,2\n")
    assert found.difference is None
    assert found.only_in_one == ("b", "c")
    assert found.values == 1
