"""A whole study without runs: conditions, grids, what is enqueued, and which studies are not mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from study_parts import CLIP, SPACE, Instant, score, settings, stored_trials

from ppolab.errors import ConfigError, SweepError
from ppolab.study.run_study import StudyPlace, open_study, run_study
from ppolab.study.search_space import Choice, Dimension, Interval, SearchSpace
from ppolab.study.storage import open_storage


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; tests/system draws."""
    monkeypatch.setattr("ppolab.study.drawing.draw", lambda *_: ([], []))


def test_a_condition_that_raises_fails_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace(CLIP, "test_run_study.raises_or_returns_a_list")
    with pytest.raises(SweepError, match="2 trials failed"):
        place = StudyPlace(None, tmp_path, None)
        run_study(settings(max_failures=2), space, place, Instant(score), lambda: False)
    failed = [trial for trial in stored_trials(tmp_path) if trial.state == TrialState.FAIL]
    assert [trial.number for trial in failed] == [0, 1]
    assert "KeyError: 'boom'" in failed[0].user_attrs["error"]
    assert "must return settings by key, or None, not [1]" in failed[1].user_attrs["error"]


def raises_or_returns_a_list(trial: optuna.Trial, values: dict[str, object]) -> Any:
    if trial.number == 0:
        raise KeyError("boom")
    return [1]


def test_what_a_condition_sets_is_told_and_not_what_it_suggested(tmp_path: Path) -> None:
    space = SearchSpace({"model": Choice(("wide",)), **CLIP}, "study_parts.width")
    result = run_study(settings(), space, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)
    assert "'model.hidden_sizes=[" in result.summary
    assert " width=" not in result.summary


def test_a_grid_ends_with_its_last_point(tmp_path: Path) -> None:
    space = SearchSpace({"clip": Choice(("0.1", "0.2", "0.3"))})
    place = StudyPlace(None, tmp_path, None)
    result = run_study(settings(sampler="grid", n_trials=3), space, place, Instant(lambda job: (1.0,)), lambda: False)
    assert result.counts["complete"] == 3
    assert {trial.params["clip"] for trial in stored_trials(tmp_path)} == {"0.1", "0.2", "0.3"}


def test_what_is_enqueued_later_is_tried_once(tmp_path: Path) -> None:
    place = StudyPlace(None, tmp_path, None)
    for n_trials in (2, 4, 6):
        later = settings(n_trials=n_trials, enqueue=({"clip": 0.123},) if n_trials > 2 else ())
        run_study(later, SPACE, place, Instant(score), lambda: False)
    assert [trial.params["clip"] for trial in stored_trials(tmp_path)].count(0.123) == 1


def test_enqueued_settings_come_first(tmp_path: Path) -> None:
    runner = Instant(score)
    run_study(settings(enqueue=({"clip": 0.123},)), SPACE, StudyPlace(None, tmp_path, None), runner, lambda: False)
    assert runner.started[0].claim.values == {"clip": 0.123}


@pytest.mark.parametrize(
    ("changes", "dimensions", "told"),
    [
        ({}, {"clip": Interval(0.05, 0.5)}, "another search space.*0.4.*0.5"),
        ({"directions": ("minimize",)}, CLIP, "another direction"),
        ({"seeds_per_trial": 2}, CLIP, "another seeds_per_trial"),
        ({"identity": {"total_steps": 5}}, CLIP, "another total_steps"),
    ],
)
def test_a_study_is_not_mixed_with_another(
    changes: dict[str, Any], dimensions: dict[str, Dimension], told: str, tmp_path: Path
) -> None:
    storage = open_storage(None, "s", tmp_path)
    open_study(settings(identity={"total_steps": 9}), SPACE, storage)
    with pytest.raises(ConfigError, match=f"study_name=s: exists with {told}"):
        open_study(settings(**({"identity": {"total_steps": 9}} | changes)), SearchSpace(dimensions), storage)


def test_a_setting_that_is_newer_than_the_study_may_have_its_default_only(tmp_path: Path) -> None:
    storage = open_storage(None, "s", tmp_path)
    open_study(settings(identity={"total_steps": 9}), SPACE, storage)
    defaults = {"total_steps": 5, "env.frame_stack": 1}
    newer = settings(identity={"total_steps": 9, "env.frame_stack": 1}, defaults=defaults)
    assert open_study(newer, SPACE, storage).study_name == "s"
    for added in ({"env.frame_stack": 4}, {"env.kwargs.goal": 1}):
        with pytest.raises(ConfigError, match=f"study_name=s: exists with another {next(iter(added))}"):
            open_study(settings(identity={"total_steps": 9} | added, defaults=defaults), SPACE, storage)
