"""What is wrong with a run is noticed and named once; what is right is not."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import make_config
from modules import trained_module
from small_runs import SMALL, run_small, small_config

from ppolab.config.schema import Config
from ppolab.envs.spaces import ActionMapping, policy_bounds
from ppolab.records.run_folder import FoundRun
from ppolab.training import named_warnings, run
from ppolab.training.named_warnings import WARNINGS, Measurements, WarningWatch

PAGE = Path(__file__).parents[3] / "docs" / "warnings.md"
HEALTHY = Measurements(
    steps=200_000, explained_variance=0.9, value_error=0.1, deviation=0.5, clipped_actions=0.1, stopped_at_once=False,
    without_end=0, without_end_per_env=0, longest_episode=1000, clipped_rewards=0.0, clipped_observations=0.0,
    reward_variance=1.0, observation_variance=1.0, rollout_variance=1.0,
)  # fmt: skip
SICK: dict[str, Any] = {
    "value-explains-nothing": {"explained_variance": 0.0, "value_error": 1.0},
    "deviation-collapsed": {"deviation": 0.009},
    "actions-clipped": {"clipped_actions": 0.76},
    "kl-stops-at-once": {"stopped_at_once": True},
    "episodes-never-end": {"without_end": 100_000, "without_end_per_env": 2_000, "longest_episode": None},
    "scaling-saturates": {"clipped_rewards": 0.21},
    "observations-constant": {"rollout_variance": 0.0},
}
NEARLY: list[tuple[str, dict[str, Any]]] = [
    ("value-explains-nothing", {"explained_variance": 0.0, "value_error": 1.0, "steps": 100_000}),
    ("value-explains-nothing", {"explained_variance": -3.0, "value_error": 0.2}),  # nothing is left to explain
    ("value-explains-nothing", {"explained_variance": 0.03, "value_error": 1.0}),
    ("deviation-collapsed", {"deviation": 0.01}),
    ("deviation-collapsed", {"deviation": None}),
    ("actions-clipped", {"clipped_actions": 0.75}),
    ("actions-clipped", {"clipped_actions": None}),
    ("episodes-never-end", {"without_end": 100_000, "without_end_per_env": 2_000, "longest_episode": 5_000}),
    ("episodes-never-end", {"without_end": 99_999, "without_end_per_env": 2_000, "longest_episode": None}),
    ("scaling-saturates", {"clipped_rewards": None, "clipped_observations": 0.2}),
    ("scaling-saturates", {"reward_variance": 0.0}),  # there are no rewards yet
    ("observations-constant", {"rollout_variance": 1e-9}),
]


def look(watch: WarningWatch, now: Measurements, times: int) -> list[str]:
    for _ in range(times):
        watch.look(now)
    return watch.shown


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_shown_once_it_holds_in_18_of_20_iterations(name: str) -> None:
    sick, watch = replace(HEALTHY, **SICK[name]), WarningWatch()
    assert look(watch, HEALTHY, 40) == []
    assert look(watch, sick, 17) == []
    assert look(watch, HEALTHY, 2) == []
    assert look(watch, sick, 1) == [name]
    assert look(watch, sick, 40) == [name]


@pytest.mark.parametrize(("name", "change"), NEARLY)
def test_what_is_nearly_wrong_is_not_told(name: str, change: dict[str, Any]) -> None:
    assert not WARNINGS[name].holds(replace(HEALTHY, **change))


@pytest.mark.parametrize(
    "change", [{"clipped_observations": 0.21}, {"reward_variance": 9e-9}, {"observation_variance": 9e-9}]
)
def test_each_way_of_saturating_is_noticed(change: dict[str, Any]) -> None:
    assert WARNINGS["scaling-saturates"].holds(replace(HEALTHY, **change))


def sick_env(**arguments: Any) -> dict[str, Any]:
    return {"env.id": "sick_envs:test/Sick-v0", "+env.kwargs": arguments}


RUNS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "as it should be": ({}, set()),
    "an environment without a fault": (sick_env(), set()),
    "rewards that nothing tells": (sick_env(unseen=True), {"value-explains-nothing"}),
    "hardly any deviation": ({"model.initial_log_std": -7.0}, {"deviation-collapsed"}),
    "a large deviation": ({"model.initial_log_std": 3.0}, {"actions-clipped"}),
    "a large deviation, squashed": ({"model.initial_log_std": 3.0, "env.squash_actions": True}, set()),
    "a large learning rate": ({"target_kl": 1e-4, "optimizer.lr": 0.05}, {"kl-stops-at-once"}),
    "no end": (sick_env(ends=False), {"episodes-never-end"}),
    "tiny observations": (sick_env(size=1e-6), {"scaling-saturates"}),
    "nothing to see": (sick_env(size=0.0), {"observations-constant"}),
}


def shown_by(config: Config, iterations: int) -> set[str]:
    return set(trained_module(config, iterations).watch.shown)


@pytest.mark.parametrize("case", RUNS)
def test_a_run_shows_what_is_wrong_with_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_warnings, "FIRST_JUDGED", 300)
    monkeypatch.setattr(named_warnings, "FIRST_JUDGED_PER_ENV", 100)
    changes, wanted = RUNS[case]
    size = {"num_envs": 8, "rollout_steps": 64, "minibatch_size": 64, "epochs": 2, "total_steps": 100_000}
    shown = shown_by(make_config(**(SMALL | size | {"optimizer.lr": 1e-3} | changes)), 30)
    assert wanted <= shown
    assert not (shown - wanted) - {"value-explains-nothing"} if wanted else not shown


def test_bounds_are_those_of_the_policy_s_own_actions() -> None:
    from gymnasium.spaces import Box, Discrete

    space = Box(-2.0, 2.0, (1,))
    found = [
        policy_bounds(space, ActionMapping(rescale, squash)) for rescale, squash in ((True, False), (False, False))
    ]
    assert [(float(low[0]), float(high[0])) for low, high in filter(None, found)] == [(-1.0, 1.0), (-2.0, 2.0)]
    assert policy_bounds(space, ActionMapping(True, True)) is None
    assert policy_bounds(Discrete(2), ActionMapping()) is None


def test_a_warning_is_in_the_log_once_and_a_resumed_run_does_not_repeat_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ppolab")
    changes = {
        "model.initial_log_std": 3.0,
        "total_steps": 1250,
        "eval_interval": 0,
        "eval_episodes": 1,
        "num_envs": 1,
        "rollout_steps": 64,
        "epochs": 1,
    }
    first = run_small(tmp_path, **changes)
    line = r"actions-clipped: .* after [\d,]+ steps; see docs/warnings\.md#actions-clipped"
    assert len(re.findall(line, caplog.text)) == 1
    caplog.clear()
    longer = small_config(**({"logger": "none"} | changes | {"total_steps": 1400}))
    run.run(longer, tmp_path, FoundRun(first.folder, first.folder.checkpoint("last")))
    assert "actions-clipped" not in caplog.text


def test_every_warning_has_a_heading() -> None:
    assert re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE) == list(WARNINGS)
