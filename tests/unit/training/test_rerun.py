"""A recorded run, made again by the command itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import call
from small_runs import small_config

from commands import Answer, assert_one_line
from ppolab.cli.commands import train_main
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.records.run_folder import RunFolder
from ppolab.records.versions import package_versions
from ppolab.training.run import run

PLACE = "hydra.run.dir=again"


@pytest.fixture
def original(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "original")
    config = small_config(logger="none", total_steps=256, eval_interval=100, eval_episodes=2, **{"logger.video": False})
    run(config, folder.path)
    return folder


def again(folder: Path, capsys: pytest.CaptureFixture[str], *changes: str) -> Answer:
    return call(train_main, folder, capsys, "rerun=original", PLACE, *changes)


def test_the_same_metrics_are_told_with_exit_code_0(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = again(tmp_path, capsys)
    assert answer.code == 0
    told = answer.out.splitlines()[-1]
    assert told == f"rerun         the same metrics as {original.path}: 36 values are equal"
    config = from_yaml(RunFolder(tmp_path / "again").config.read_text())
    assert config.rerun == str(original.path)
    assert config.num_envs == 4, "its own settings, not the shipped ones"


def test_a_setting_that_changes_metrics_is_named_with_exit_code_3(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = again(tmp_path, capsys, "eval_episodes=1")
    assert answer.code == 3
    line = answer.err.splitlines()[-1]
    assert "the metrics differ first at step 128, in eval/return: -" in line
    assert line.endswith("settings differ: eval_episodes 2 -> 1")


def test_a_version_that_differs_is_named(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = original.metrics.read_text().replace("\n128,", "\n127,")
    original.metrics.write_text(changed)
    versions = json.loads(original.versions.read_text())
    original.versions.write_text(json.dumps({**versions, "torch": "1.0"}))
    answer = again(tmp_path, capsys)
    assert answer.code == 3
    assert answer.err.splitlines()[-1].endswith(f"versions differ: torch 1.0 -> {package_versions()['torch']}")


def test_an_earlier_run_without_versions_is_made_again(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original.versions.unlink()
    original.metrics.write_text(original.metrics.read_text().replace("\n128,", "\n127,"))
    answer = again(tmp_path, capsys)
    assert answer.code == 3
    assert "its versions are not known" in answer.err.splitlines()[-1]


def test_a_run_that_was_not_finished_is_compared_as_far_as_it_came(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = original.metrics.read_text().splitlines(keepends=True)
    original.metrics.write_text("".join(rows[:2]))
    answer = again(tmp_path, capsys)
    assert answer.code == 0
    assert answer.out.splitlines()[-1].endswith("values are equal up to step 128, where one of the runs ended")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("seed=3", ("rerun=original", "another run: seed 0 -> 3", "leave these out")),
        ("init_from=original", ("init_from=original", "does not go with rerun=original")),
    ],
)
def test_another_run_is_refused(
    change: str, parts: tuple[str, ...], original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(again(tmp_path, capsys, change), *parts)
    assert not (tmp_path / "again").exists()


def test_a_run_without_metrics_is_refused(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original.metrics.unlink()
    assert_one_line(again(tmp_path, capsys), "rerun=original", "has no metrics.csv")


def test_a_rerun_goes_into_a_new_folder_and_leaves_the_original(
    original: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in original.path.iterdir() if path.is_file()}
    stored = to_yaml(from_yaml(original.config.read_text()))
    assert again(tmp_path, capsys).code == 0
    assert {path.name: path.read_bytes() for path in original.path.iterdir() if path.is_file()} == before
    assert "rerun: null" in stored
