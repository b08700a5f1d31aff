"""What a run's page in MLflow says of it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from helpers import make_config

from ppolab.training.run_note import run_note

FOLDER = Path("outputs/a")
METRICS = {"eval/return": 217.43, "eval/return_std": 0.997, "train/return": 162.5}


@pytest.fixture(autouse=True)
def _typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ppolab-train"])


def test_a_finished_run_has_its_result_and_what_to_type_next() -> None:
    config = make_config(env="hopper", clip=0.1, total_steps=20_000, anneal_lr=False)
    assert run_note(config, FOLDER, "FINISHED", 20_050, METRICS, 220.8).splitlines() == [
        "**Hopper-v5** with ppo_clip, 20,000 steps, seed 0. Not the defaults: `clip=0.1` `anneal_lr=false`",
        "",
        "Finished after 20,050 steps. Eval return **217.4 ± 0.997** (best 220.8). Train return 162.5.",
        "",
        "- evaluate: `ppolab-evaluate run=outputs/a`",
        "- export: `ppolab-export run=outputs/a format=onnx`",
        '- in Python: `agent = ppolab.load("outputs/a")`',
        "- train longer: `ppolab-train resume=outputs/a total_steps=40000`",
    ]


def test_a_run_that_has_begun_says_how_to_go_on_should_it_be_killed() -> None:
    lines = run_note(make_config(env="hopper"), FOLDER, None, 0, {}, -math.inf).splitlines()
    assert lines[0].endswith("seed 0. All settings are the defaults.")
    assert lines[4:] == ["- go on: `ppolab-train resume=outputs/a`"]


@pytest.mark.parametrize(("status", "word"), [("KILLED", "Interrupted"), ("FAILED", "Failed")])
def test_a_run_that_broke_off_goes_on(status: str, word: str) -> None:
    metrics = {"train/return": math.nan}
    lines = run_note(make_config(env="hopper"), FOLDER, status, 2_048, metrics, -math.inf).splitlines()  # type: ignore[arg-type]
    assert lines[2] == f"{word} after 2,048 steps."
    assert lines[4] == "- go on: `ppolab-train resume=outputs/a`"


def test_a_pruned_run_is_not_told_to_go_on() -> None:
    note = run_note(make_config(env="hopper"), FOLDER, "PRUNED", 2_048, METRICS, 217.43)
    assert "Stopped early, since other trials of the study did better, after 2,048 steps. Eval return" in note
    assert "resume=" not in note
