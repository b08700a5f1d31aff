"""How a run words its results, and the commands that it prints."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tiny_config
from hydra.core.override_parser.overrides_parser import OverridesParser

from ppolab.records.run_folder import RunFolder
from ppolab.records.wording import as_typed, command_with, next_command, problem_in, shown, shown_return
from ppolab.training.result import RunResult

SHOWN = {
    0.02: "0.02", -0.002: "-0.002", -0.0: "0.0", 0.12345: "0.123", 1e-5: "1e-05", -0.5: "-0.5", 1.0: "1.0",
    9.96: "10.0", 1234.56: "1,234.6", -1234.56: "-1,234.6", 999_999.0: "999,999.0",
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), SHOWN.items())
def test_small_numbers_keep_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_deviation_of_rounding_errors_is_none() -> None:
    assert shown_return(0.02, 3.5e-18) == "0.02 ± 0.0"
    assert shown_return(0.02, 0.001) == "0.02 ± 0.001"
    assert shown_return(-500.0, 12.34) == "-500.0 ± 12.3"
    assert shown_return(0.0, 0.0) == "0.0 ± 0.0"


def test_a_problem_is_told_by_our_line_and_not_by_the_notes_after_it() -> None:
    trace = "Traceback (most recent call last):\n  ...\n"
    noted = f"{trace}ppolab.errors.EnvError: mine: environment 0 raised\n{trace}ValueError: boom\nsecond line\n"
    assert problem_in(noted) == "mine: environment 0 raised"
    assert problem_in(f"{trace}ZeroDivisionError: division by zero\n") == "ZeroDivisionError: division by zero"
    assert problem_in("clip=2: must be below 1") == "clip=2: must be below 1"


# --- commands --------------------------------------------------------------------------------------------------------

FOLDERS = (
    "outputs/a",
    "o/clip=0.1,seed=3",
    "o/my run",
    "o/学习",
    "o/it's",
    'o/"a"',
    "o/a\\b",
    "o/a\\",
    'o/\\"',
    "o/(x)[y]{z}",
    "o/#1 $5",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_shell_and_hydra_read_the_folder_that_was_meant(folder: str) -> None:
    *_, argument = shlex.split(next_command("evaluate", "run", Path(folder)))
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert (override.key_or_group, str(override.value())) == ("run", folder)


@pytest.mark.parametrize(
    ("typed", "program"),
    [
        ("src/train.py", "python src/evaluate.py"),
        ("../my clone/src/train.py", "python '../my clone/src/evaluate.py'"),
        ("/usr/local/bin/ppolab-train", "ppolab-evaluate"),
        ("ppolab-train", "ppolab-evaluate"),
        ("train.py", "ppolab-evaluate"),  # a script of the user's own, which calls ppolab.train
        ("my_script.py", "ppolab-evaluate"),
    ],
)
def test_a_command_has_the_form_that_was_typed(
    typed: str, program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for clone in ("here/src", "my clone/src"):
        (tmp_path / clone / "ppolab").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "argv", [typed, "env=cartpole"])
    assert next_command("evaluate", "run", "outputs/a") == f"{program} run=outputs/a"


def test_a_whole_command_is_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ppolab-train"])
    assert command_with("train", ["env=ant", "a=[1, 2]"]) == "ppolab-train env=ant 'a=[1, 2]'"
    assert as_typed("type python src/train.py or python src/report.py") == "type ppolab-train or ppolab-report"


# --- the summary -----------------------------------------------------------------------------------------------------

RESULT = RunResult(
    tiny_config("CartPole-v1"), RunFolder(Path("o/a=b")), None, None,
    {"eval/return": 0.021, "eval/return_std": 0.0, "train/return": -0.0}, 1024, 512, 2.0, 0.03, False,
)  # fmt: skip


def test_a_summary_tells_results_and_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ppolab-train"])
    assert RESULT.summary.splitlines() == [
        "run           not tracked",
        "steps         1,024, of these 512 in 2.0 s, 256 steps/s overall",
        "train return  0.0 (mean of the latest episodes)",
        "eval return   0.021 ± 0.0, best 0.03",
        "files         o/a=b",
        "evaluate      ppolab-evaluate 'run=\"o/a=b\"'",
    ]


def test_a_run_that_was_not_resumed_has_taken_all_its_steps_now() -> None:
    assert "steps         1,024 in 2.0 s, 512 steps/s overall" in replace(RESULT, new_steps=1024).summary


def test_a_run_whose_store_has_not_answered_is_not_called_untracked() -> None:
    waiting = replace(RESULT, tracking_uri="http://store")
    assert waiting.summary.splitlines()[0] == "run           the tracking store has not told its id yet"


def test_a_run_in_which_no_episode_ended_says_so() -> None:
    silent = replace(RESULT, metrics={"eval/return": 1.0, "eval/return_std": 0.0})
    assert "train return  no episode ended within 1,024 steps" in silent.summary.splitlines()
