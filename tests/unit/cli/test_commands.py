"""The commands as functions: what they print and return, and that they leave the process as it was."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from in_process import call, process_state
from omegaconf import OmegaConf

import ppolab
from commands import assert_one_line, write_user_module
from ppolab.cli import commands
from ppolab.cli.commands import evaluate_main, report_main, train_main
from ppolab.cli.hydra_guard import GuardedTask, hydra_guarded
from ppolab.cli.jobs import train_job


@pytest.mark.parametrize(
    ("main", "arguments", "code"),
    [
        (train_main, ("clip=2",), 2),
        (train_main, ("--help",), 0),
        (train_main, ("--cfg=job",), 0),
        (train_main, ("--info=defaults",), 0),
        (train_main, ("env.id=user_module:Words-v0",), 2),
        (train_main, ("-m", "clip=2,3"), 2),
        (evaluate_main, (), 2),
        (report_main, ("confidence=2",), 2),
    ],
)
def test_an_answer_leaves_the_process_as_it_was(
    main: Any, arguments: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_user_module(tmp_path)
    before = process_state()
    assert call(main, tmp_path, capsys, *arguments).code == code
    assert process_state() == before


def test_a_name_of_any_letters_needs_no_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, "--cfg=job", "logger.experiment=学习", "logger.run_name=Größe")
    assert (answer.code, answer.err) == (0, "")
    assert "  experiment: 学习\n" in answer.out
    assert "  run_name: Größe\n" in answer.out


def test_flags_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, "clip=0.3", "--cfg", "job", "seed=7")
    assert (answer.code, answer.err) == (0, "")
    assert "\nclip: 0.3\n" in answer.out
    assert "\nseed: 7\n" in answer.out


def test_a_folder_of_presets_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/low.yaml").write_text("# @package _global_\nclip: 2\n")
    answer = call(train_main, tmp_path, capsys, "--config-dir=mine", "experiment=low")
    assert_one_line(answer, "clip=2")


@pytest.mark.parametrize("spelled", ["resume=auto", "resume='auto'", '++resume="auto"'])
def test_resume_auto_without_a_run_to_resume_is_a_new_run(
    spelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = call(train_main, tmp_path, capsys, "--cfg=job", spelled, "seed=5")
    assert (answer.code, answer.err) == (0, "")
    assert "\nseed: 5\n" in answer.out
    assert "\nresume: null\n" in answer.out


def test_resume_auto_in_a_file_says_where_it_belongs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/again.yaml").write_text("# @package _global_\nresume: auto\n")
    answer = call(train_main, tmp_path, capsys, "--config-dir=mine", "experiment=again")
    assert_one_line(answer, "resume=auto: is for the command line")


@pytest.mark.parametrize(("rank", "subdir"), [("0", True), ("1", False)])
def test_only_the_first_rank_has_a_folder(
    rank: str, subdir: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr(commands, "_run", lambda _name, _task, _flags, overrides: made.append(overrides))
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert call(train_main, tmp_path, capsys, "trainer=ddp").code == 0
    assert ("hydra.output_subdir=null" not in made[0]) == subdir
    assert call(train_main, tmp_path, capsys, "trainer=cpu").code == 0
    assert made[1] == ["trainer=cpu"]


def test_version_is_ppolabs_and_hydras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, "--version")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"ppolab {ppolab.__version__}, Hydra 1.")


# --- the guard -------------------------------------------------------------------------------------------------------


def test_hydra_is_guarded_inside_the_block_only(tmp_path: Path) -> None:
    secret = OmegaConf.create({"uri": "http://me:hunter2@lab"})
    with hydra_guarded():
        utils._save_config(secret, "guarded.yaml", tmp_path)
    utils._save_config(secret, "plain.yaml", tmp_path)
    assert "hunter2" not in (tmp_path / "guarded.yaml").read_text()
    assert "hunter2" in (tmp_path / "plain.yaml").read_text()


def test_a_task_guards_hydra_where_another_launcher_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = utils._save_config
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", ConfigLoaderImpl.load_configuration)  # put back
    with hydra_guarded():
        text = pickle.dumps(GuardedTask(train_job))
    assert utils._save_config is plain
    try:
        assert pickle.loads(text) == GuardedTask(train_job)
        assert utils._save_config is not plain
    finally:
        utils._save_config = plain
