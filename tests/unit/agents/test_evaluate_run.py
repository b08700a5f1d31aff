"""Evaluations of a stored run: kept beside each other, and told to the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers import make_env, make_policy, tiny_config

from ppolab.agents import evaluate_run as module
from ppolab.agents import video
from ppolab.agents.evaluate_run import evaluate_run
from ppolab.agents.video import RenderError, record_video
from ppolab.config.command_schema import EvaluateConfig
from ppolab.envs.envpool_ids import is_installed
from ppolab.errors import TrackingError
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.training.run import run

RUN_ID = "0123456789abcdef" * 2
Told = list[tuple[str, str, Mapping[str, float], int, Mapping[Path, str]]]


@pytest.fixture
def stored(tmp_path: Path) -> FoundRun:
    run(tiny_config("CartPole-v1", total_steps=96, eval_episodes=1, logger="none"), tmp_path)
    folder = RunFolder(tmp_path)
    folder.write_record(RUN_ID, "http://lab:5000", finished=True)
    return FoundRun(folder, folder.checkpoint("best"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    calls: Told = []
    monkeypatch.setattr(module, "add_evaluation", lambda *arguments: calls.append(arguments))
    return calls


def asked(**settings: Any) -> EvaluateConfig:
    return EvaluateConfig(**({"run": "", "episodes": 2, "video": False} | settings))


def names(found: FoundRun) -> list[str]:
    return sorted(path.name for path in (found.folder.path / "evaluations").iterdir())


def test_no_evaluation_overwrites_another(stored: FoundRun, told: Told) -> None:
    for settings in (asked(), asked(), asked(seed=7), asked(episodes=3), asked(deterministic=False), asked()):
        evaluate_run(stored, settings)
    first = "best-seed0-2episodes"
    assert names(stored) == [
        first, f"{first}-2", f"{first}-3", f"{first}-sampled", "best-seed0-3episodes", "best-seed7-2episodes",
    ]  # fmt: skip
    results = {name: json.loads((path / "result.json").read_text()) for name in names(stored)
               for path in [stored.folder.path / "evaluations" / name]}  # fmt: skip
    assert results[first] == results[f"{first}-2"] == results[f"{first}-3"]
    assert results[f"{first}-sampled"]["deterministic"] is False
    assert results[f"{first}-sampled"]["returns"] != results[first]["returns"]
    assert (results[first]["checkpoint"], results["best-seed7-2episodes"]["seed"]) == ("best", 7)


def test_the_store_gets_the_numbers_and_the_file(stored: FoundRun, told: Told) -> None:
    report = evaluate_run(stored, asked())
    evaluate_run(stored, asked(deterministic=False))
    (uri, run_id, metrics, step, files), (_, _, sampled, _, _) = told
    assert (uri, run_id) == ("http://lab:5000", RUN_ID)
    file = stored.folder.path / "evaluations/best-seed0-2episodes/result.json"
    result = json.loads(file.read_text())
    assert metrics == {
        "evaluate/return": result["mean"],
        "evaluate/return_std": result["std"],
        "evaluate/length": result["mean"],  # CartPole pays 1 a step
    }
    assert set(sampled) == {"evaluate_sampled/return", "evaluate_sampled/return_std", "evaluate_sampled/length"}
    assert step == result["steps"] > 96
    assert files == {file: "evaluations/best-seed0-2episodes"}
    assert f"result        {file}" in report


def test_a_store_that_is_away_is_only_warned_of(
    stored: FoundRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise TrackingError("cannot open http://lab:5000: nobody answers")

    monkeypatch.setattr(module, "add_evaluation", away)
    with caplog.at_level(logging.WARNING):
        assert "over 2 deterministic episodes" in evaluate_run(stored, asked())
    (record,) = caplog.records
    assert record.getMessage().endswith("but not in MLflow: cannot open http://lab:5000: nobody answers")


def test_a_run_that_is_not_tracked_is_told_to_nobody(stored: FoundRun, told: Told) -> None:
    stored.folder.write_record(None, "", finished=True)
    evaluate_run(stored, asked())
    assert not told


def test_what_envpool_alone_has_is_said_to_be_played_there_and_why_it_has_no_video(
    stored: FoundRun, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "evaluation_backend", lambda _: "envpool")
    monkeypatch.setattr(video, "cannot_draw", lambda _: "EnvPool has no pencil")
    lines = evaluate_run(stored, asked(video=True)).splitlines()
    assert lines[0].startswith("CartPole-v1 on envpool, ")
    assert lines[3] == "no video: EnvPool has no pencil"


@pytest.mark.skipif(not is_installed(), reason="EnvPool has no build for this platform")
def test_what_envpool_cannot_draw_is_not_tried_one_by_one_either(tmp_path: Path) -> None:
    config = tiny_config("NChain-v0", **{"env.backend": "gymnasium"})
    env = make_env(config)
    with pytest.raises(RenderError) as refused:
        record_video(make_policy(config, env), config.env, 0, tmp_path / "video.mp4")
    env.close()
    assert str(refused.value) == "no video: EnvPool does not draw tasks of toy text"
