"""One of each command, as a user types it: a run, its evaluation, its resume, a study, a report, two ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import TINY, Answer, evaluate, metric_rows, report, run_folders, series, train

SETTINGS = ("env=cartpole", *TINY, "logger.video=false", "eval_interval=128")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one run was trained, with the local MLflow store beside it."""
    folder = tmp_path_factory.mktemp("workspace")
    passed(train(folder, *SETTINGS, "total_steps=256"))
    return folder


def passed(answer: Answer) -> str:
    assert answer.code == 0, answer.err
    return answer.out


def test_a_run_leaves_its_files(workspace: Path) -> None:
    run = run_folders(workspace)[0]
    for name in ("config.yaml", "metrics.csv", "train.log", "run.json", "learning_curve.png"):
        assert (run / name).stat().st_size > 0, name
    assert {path.stem for path in (run / "checkpoints").iterdir()} >= {"best", "last"}
    assert list(series(run, "eval/return"))[-1] >= 256
    assert (workspace / "outputs/mlflow.db").is_file()


def test_its_policy_can_be_evaluated(workspace: Path) -> None:
    run = run_folders(workspace)[0]
    out = passed(evaluate(workspace, f"run={run}", "episodes=3", "video=false"))
    assert "CartPole-v1" in out
    assert list(run.rglob("result.json"))


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    passed(train(tmp_path, *SETTINGS, "total_steps=128"))
    run = run_folders(tmp_path)[0]
    before = len(metric_rows(run))
    passed(train(tmp_path, f"resume={run}", "total_steps=256"))
    assert len(run_folders(tmp_path)) == 1
    assert len(metric_rows(run)) > before


def test_a_study_of_two_trials(tmp_path: Path) -> None:
    settings = (*SETTINGS, "total_steps=128", "clip=interval(0.1,0.3)", "n_trials=2", "study_name=small")
    out = passed(train(tmp_path, "-m", *settings))
    assert "small" in out
    assert {path.name for path in (tmp_path / "outputs/studies/small").glob("trial-*")} == {"trial-0000", "trial-0001"}


def test_a_report_over_the_runs(workspace: Path) -> None:
    out = passed(report(workspace, "metric=train/return"))
    assert "CartPole-v1" in out
    assert list((workspace / "outputs/reports").rglob("report.md"))


def test_two_ranks_make_one_run(tmp_path: Path) -> None:
    passed(train(tmp_path, *SETTINGS, "total_steps=128", "trainer=ddp", "num_envs=2"))
    (run,) = run_folders(tmp_path)
    assert int(metric_rows(run)[-1]["step"]) >= 128
