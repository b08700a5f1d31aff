"""The runs of a report: which count, and under which settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ppolab.config.recorded import value_left_out
from ppolab.errors import ConfigError
from ppolab.records.tracking import StoredRun, StoreReader
from ppolab.reports.results import results_of
from ppolab.reports.scores import Collection, Scored, as_last_trained, collect
from ppolab.reports.settings import ReportConfig, RunsConfig, check

OLD_RUNS = Path(__file__).parents[2] / "fixtures/study_0_1_0/runs.json"
"""Runs of ppolab 0.1.0 on CartPole: three trials of a study, and seeds 0, 1 and 2, of which 0 went on to 512 steps."""


class OldStore:
    """Read runs of ppolab 0.1.0 as a store would hand them out."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = json.loads(OLD_RUNS.read_text())

    def runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[StoredRun]:
        found = [
            StoredRun(**{key: value for key, value in row.items() if key not in ("history", "parent")})
            for row in self._rows
        ]
        return [run for run in found if tags.items() <= run.tags.items()]

    def history(self, run: Scored) -> list[tuple[int, float]]:
        (row,) = [row for row in self._rows if row["run_id"] == run.run.run_id]
        return [(step, value) for step, value in row["history"]]


def report_config(study: str | None = None) -> ReportConfig:
    return ReportConfig(
        runs=RunsConfig(study=study),
        metric="eval/return",
        curve="eval/return",
        normalize="range",
        confidence=0.95,
        bootstrap=50,
        seed=0,
        log_to_mlflow=False,
    )


@pytest.mark.parametrize("key", ["metric", "curve"])
@pytest.mark.parametrize(
    "name", ["policy/clip", "policy/entropy_coef", "policy/beta", "evaluate/return", "evaluate_sampled/length"]
)
def test_whatever_is_logged_to_a_run_may_be_asked_for_and_nothing_else(name: str, key: str) -> None:
    check(replace(report_config(), **{key: name}))
    check(replace(report_config(), **{key: f"env/{name}"}))  # what environments log has any name
    with pytest.raises(ConfigError, match=f"^{key}={name}s: is no metric; did you mean '{name}'"):
        check(replace(report_config(), **{key: f"{name}s"}))


def test_a_metric_of_a_later_evaluation_is_named_where_it_was_mistyped() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'evaluate_sampled/return'\?; .*, evaluate/return"):
        check(replace(report_config(), metric="evaluate_sampled/retrun"))


def test_a_report_over_runs_of_an_earlier_version() -> None:
    store = OldStore()
    found = collect(report_config("s"), cast(StoreReader, store))
    assert found.tasks == ["CartPole-v1"]
    assert [method.partition("=")[0] for method in found.methods] == ["clip"] * 3
    assert [run.score for run in found.runs] == [85.5] * 3
    results = results_of(found, report_config("s"), store.history)
    assert [row.estimates["iqm"].value for row in results.per_task] == [85.5] * 3
    assert [curve.y[-1] for curve in results.curves] == [85.5] * 3


def test_a_run_that_was_resumed_for_longer_stands_with_those_of_its_length() -> None:
    store = OldStore()
    alone = [run for run in store.runs(None, {}) if "study" not in run.tags]
    store.runs = lambda experiment, tags: alone  # type: ignore[method-assign]
    found = collect(report_config(), cast(StoreReader, store))
    seeds = {method: {run.seed for run in found.of("CartPole-v1", method)} for method in found.methods}
    assert seeds == {"total_steps=256": {"1"}, "total_steps=512": {"0", "2"}}


@pytest.mark.parametrize(
    ("tag", "total_steps"),
    [
        ('{"parameters": {"total_steps": "6144"}, "tags": {"command": "python"}}', "6144"),
        ('{"parameters": {"total_steps": "6144"}, "tags": {"command": "pyth…', "6144"),
        ('{"parameters": {}, "tags": {}}', "1024"),
        ('{"parameters": {"total_st…', "1024"),
        ("by hand", "1024"),
    ],
)
def test_the_settings_of_the_last_resume_count(tag: str, total_steps: str) -> None:
    run = StoredRun("1", "a", "ppolab", "FINISHED", 0, {"total_steps": "1024", "seed": "0"}, {}, {})
    resumed = as_last_trained(replace(run, tags={"resumed_with": tag}))
    assert resumed.parameters == {"total_steps": total_steps, "seed": "0"}
    assert as_last_trained(run) is run


def test_a_run_of_today_is_of_the_method_that_an_earlier_version_recorded_in_full() -> None:
    """Earlier versions recorded settings that the algorithm ignores, empty ones, and those of bookkeeping."""
    full = {
        "env.id": "CartPole-v1", "algorithm.name": "a2c", "optimizer._target_": "torch.optim.Adam", "gamma": "0.99",
        "algorithm.ignores": "['clip', 'epochs']", "clip": "0.3", "epochs": "10", "model.network": "None",
        "keep_checkpoints": "2", "logger.video": "False", "objective": "eval/return",
    }  # fmt: skip
    short = {key: full[key] for key in ("env.id", "algorithm.name", "optimizer._target_", "gamma")}
    ppo = {"env.id": "CartPole-v1", "algorithm.name": "ppo_clip", "optimizer._target_": "torch.optim.Adam"}
    made = [
        {**full, "seed": "0"}, {**short, "seed": "0"}, {**short, "seed": "1"}, {**short, "gamma": "0.9", "seed": "0"},
        {**ppo, "clip": "0.1", "gamma": "0.99", "seed": "0"}, {**ppo, "clip": "0.2", "gamma": "0.99", "seed": "0"},
    ]  # fmt: skip
    store = OldStore()
    stored = [
        StoredRun(str(number), "a", "ppolab", "FINISHED", number, values, {}, {"eval/return": 1.0})
        for number, values in enumerate(made)
    ]
    store.runs = lambda experiment, tags: stored  # type: ignore[method-assign]
    found = collect(report_config(), cast(StoreReader, store))
    assert {run.method for run in found.runs} == {
        "algorithm=a2c, gamma=0.9", "algorithm=a2c, gamma=0.99",
        "algorithm=ppo_clip, clip=0.1, gamma=0.99", "algorithm=ppo_clip, clip=0.2, gamma=0.99",
    }  # fmt: skip
    assert len(found.of("CartPole-v1", "algorithm=a2c, gamma=0.99")) == 2
    assert [remark for remark in found.remarks if "differ in" in remark] == []


PLAIN = {"env.id": "Pendulum-v1", "algorithm.name": "ppo_clip", "optimizer._target_": "torch.optim.Adam"}


def collected(*settings: dict[str, str], compare: list[str] | None = None) -> Collection:
    """Return what a report makes of runs with these settings, each with a seed of its own."""
    stored = [
        StoredRun(
            str(number), "a", "ppolab", "FINISHED", number, {**PLAIN, **values, "seed": str(number)}, {},
            {"eval/return": 1.0},
        )
        for number, values in enumerate(settings)
    ]  # fmt: skip
    store = OldStore()
    store.runs = lambda experiment, tags: stored  # type: ignore[method-assign]
    return collect(replace(report_config(), compare=compare), cast(StoreReader, store))


@pytest.mark.parametrize(
    ("key", "value", "usual"),
    [
        ("exploration.noise_color", "0.5", "0.0"), ("exploration.final_log_std", "-2.0", "null"),
        ("model.memory", "gru", "none"), ("model.network", "my:Net", "null"),
        ("entropy_schedule", "linear", "null"), ("algorithm.clip_schedule", "linear", "null"),
    ],
)  # fmt: skip
def test_a_setting_that_is_left_out_at_its_usual_value_is_told_by_that(key: str, value: str, usual: str) -> None:
    assert set(collected({}, {key: value}).methods) == {f"{key}={usual}", f"{key}={value}"}


def test_a_setting_that_only_some_algorithms_recorded_is_not_hidden() -> None:
    penalty, trpo = {"algorithm.name": "ppo_penalty"}, {"algorithm.name": "trpo"}
    found = collected(
        {}, {**penalty, "exploration.final_log_std": "-2.0"}, {**trpo, "exploration.final_log_std": "-2.0"}
    )
    (remark,) = [remark for remark in found.remarks if "also differ in" in remark]
    assert "exploration.final_log_std" in remark


def test_an_algorithm_has_no_usual_value_of_what_it_does_not_read() -> None:
    schedule = {"entropy_schedule": "linear", "algorithm.clip_schedule": "linear"}
    found = collected({}, schedule, {"algorithm.name": "trpo"})
    assert "algorithm=trpo" in found.methods
    assert value_left_out("algorithm.clip_schedule", "trpo") is None
    assert value_left_out("env.kwargs.g", "ppo_clip") is value_left_out("gamma", "ppo_clip") is None


def test_a_run_without_the_compared_settings_is_told_by_its_algorithm() -> None:
    others = {"algorithm.name": "trpo"}, {"algorithm.name": "a2c"}
    found = collected({"clip": "0.1"}, {"clip": "0.2"}, *others, compare=["clip"])
    assert set(found.methods) == {"clip=0.1", "clip=0.2", "algorithm=trpo", "algorithm=a2c"}
    assert found.remarks == []


def test_an_algorithm_that_is_alone_on_its_task_is_no_method_of_all_runs() -> None:
    alone = {"env.id": "Ant-v5", "algorithm.name": "trpo"}
    assert set(collected({"clip": "0.1"}, {"clip": "0.2"}, alone).methods) == {"clip=0.1", "clip=0.2", "algorithm=trpo"}


def test_a_run_of_no_recorded_algorithm_is_told_by_what_it_lacks() -> None:
    found = collected({"clip": "0.1"}, {"algorithm.name": ""}, compare=["clip"])
    assert set(found.methods) == {"clip=0.1", "without clip"}


def test_runs_that_differ_in_nothing_are_one_method() -> None:
    assert collected({}, {}, {}).methods == ["all runs"]
    assert collected({}, {}, compare=["optimizer"]).methods == ["all runs"]


def test_parts_of_the_runs_of_a_population_are_left_out() -> None:
    store = OldStore()
    for row in store._rows:
        row["tags"] = {**row["tags"], "ppolab.kind": "segment"}
    with pytest.raises(ConfigError, match="no such run"):
        collect(report_config("s"), cast(StoreReader, store))
