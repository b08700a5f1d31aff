"""Callbacks that change the arguments of the environments while a run trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import probe_envs  # noqa: F401 -- registers probe/Diary-v0
import pytest
import sample_callbacks
from helpers import tiny_config
from small_runs import run_small, small_config

from ppolab.config.loading import from_yaml
from ppolab.config.schema import Config
from ppolab.errors import CallbackError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import FoundRun
from ppolab.training.result import RunResult
from ppolab.training.run import run

CALLBACK = {"callbacks": ["sample_callbacks:OtherArguments"]}
PENDULUM: dict[str, Any] = {"eval_interval": 0, "eval_episodes": 1, "anneal_lr": False, "total_steps": 384}
POOL = {"env": "cartpole", "env.backend": "envpool"}


@pytest.fixture(autouse=True)
def changes() -> dict[str, Any]:
    sample_callbacks.IN_FORCE.clear()
    sample_callbacks.CHANGES.clear()
    return sample_callbacks.CHANGES


def of_diary(folder: Path, callback: str = "OtherArguments", **settings: Any) -> RunResult:
    callbacks = [f"sample_callbacks:{callback}"]
    small = {"total_steps": 160, "eval_episodes": 2, "logger": "none", "callbacks": callbacks}
    result = run(tiny_config("probe/Diary-v0", **(small | settings)), folder)
    assert result is not None
    return result


def rows_of(folder: Path) -> list[dict[str, float]]:
    rows = read_metrics(folder / "metrics.csv")
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def test_environments_are_made_anew_and_evaluations_keep_to_the_configuration(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes["lengths"] = [2]
    result = of_diary(tmp_path, env_kwargs={"lengths": [4]})
    lengths = [row["train/length"] for row in rows_of(tmp_path) if "train/length" in row]
    assert lengths[:2] == [4.0, 4.0] and set(lengths[2:]) == {2.0} and len(lengths) > 3
    assert result.metrics["eval/length"] == 4
    assert from_yaml((tmp_path / "config.yaml").read_text()).env.kwargs == {"lengths": [4]}
    assert load_checkpoint(tmp_path / "checkpoints/last.ckpt").module["env_kwargs"] == {"lengths": [2]}


def test_arguments_that_are_not_named_stay(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes["only_truncates"] = True
    of_diary(tmp_path, env_kwargs={"lengths": [4]})
    assert sample_callbacks.IN_FORCE[1] == {"lengths": [4]}
    assert sample_callbacks.IN_FORCE[2] == {"lengths": [4], "only_truncates": True}


def test_a_change_before_the_first_iteration_holds_in_it(tmp_path: Path) -> None:
    of_diary(tmp_path, "ShortFromTheStart", env_kwargs={"lengths": [4]})
    assert {row["train/length"] for row in rows_of(tmp_path) if "train/length" in row} == {2.0}


def test_statistics_and_optimizer_go_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes["g"] = 2.0
    run_small(tmp_path, **PENDULUM, **CALLBACK)
    module = load_checkpoint(tmp_path / "checkpoints/last.ckpt").module
    counts = module["policy"]["observation_scale.count"], module["optimizer"]["state"][0]["step"]
    assert tuple(map(float, counts)) == (module["steps"], 12 * module["iteration"])


@pytest.mark.parametrize(("settings", "change"), [({}, {"g": 2.0}), (POOL, {"max_episode_steps": 7})])
def test_a_resumed_run_is_the_run_that_went_on(
    settings: dict[str, Any], change: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes |= change
    settings = PENDULUM | CALLBACK | settings
    run_small(tmp_path / "whole", **settings)
    first = run_small(tmp_path / "parts", **(settings | {"total_steps": 256}))
    stored = load_checkpoint(first.folder.checkpoint("last")).module
    assert stored["env_kwargs"] == change and stored["iteration"] >= 3
    sample_callbacks.IN_FORCE.clear()
    run(
        small_config(logger="none", **settings),
        tmp_path / "parts",
        FoundRun(first.folder, first.folder.checkpoint("last")),
    )
    assert sample_callbacks.IN_FORCE and all(each == change for each in sample_callbacks.IN_FORCE)
    whole, parts = (
        [row for row in rows_of(tmp_path / name) if "eval/return" not in row] for name in ("whole", "parts")
    )
    assert whole == parts and len(whole) > 4
    unchanged = run_small(tmp_path / "unchanged", **(settings | {"callbacks": []}))
    assert rows_of(unchanged.folder.path)[:2] == whole[:2] and rows_of(unchanged.folder.path)[3] != whole[3]


def test_nothing_happens_where_nothing_changes(tmp_path: Path, changes: dict[str, Any]) -> None:
    without = run_small(tmp_path / "without", **PENDULUM, **{"+env.kwargs": {"g": 9.0}})
    changes["g"] = 9.0
    run_small(tmp_path / "same", **PENDULUM, **CALLBACK, **{"+env.kwargs": {"g": 9.0}})
    assert rows_of(tmp_path / "same") == rows_of(without.folder.path)


PARTS, CARTPOLE = tiny_config("probe/Parts-v0", env_kwargs={"flat": True}), small_config(**POOL)
REFUSED: dict[str, tuple[Config, dict[str, Any], str]] = {
    "other spaces": (PARTS, {"flat": False}, r"env.kwargs=.*: changes the observations from .*; a policy keeps its"),
    "no such argument": (PARTS, {"flatt": False}, "env.id=probe/Parts-v0 .*cannot be made: TypeError: .*'flatt'"),
    "no plain value": (PARTS, {"flat": object}, "must hold numbers, texts, true or false, and lists or dictionaries"),
    "not of the pool": (CARTPOLE, {"sutton_barto_reward": True}, "EnvPool does not take these for CartPole-v1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(case: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    config, change, told = REFUSED[case]
    changes |= change
    small = {"total_steps": 160, "eval_episodes": 1, **CALLBACK}
    with pytest.raises(CallbackError, match=told) as raised:
        run(with_settings(config, small), tmp_path)
    assert str(raised.value).startswith("change_env_kwargs({") and "\n" not in str(raised.value)


def with_settings(config: Config, settings: dict[str, Any]) -> Config:
    return replace(config, **settings, logger=replace(config.logger, kind="none"))


def test_the_last_evaluation_is_there_for_callbacks_and_after_a_resume(tmp_path: Path) -> None:
    result = of_diary(tmp_path, eval_interval=64)
    module = load_checkpoint(tmp_path / "checkpoints/last.ckpt").module
    assert module["evaluation"] == {key: value for key, value in result.metrics.items() if key.startswith("eval/")}
    assert set(module["evaluation"]) == {"eval/return", "eval/return_std", "eval/length"}
