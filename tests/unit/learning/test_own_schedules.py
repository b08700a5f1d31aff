"""Schedules of the learning rate, the clip range and the entropy bonus: shipped ones, and the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gradients import INPUTS, algorithm_config, needs_compiler, new_policy
from helpers import make_learner, random_rollout
from modules import trained_module, whole_and_resumed
from small_runs import run_small, small_config

from ppolab.config.algorithms import refuse_unread
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.errors import ConfigError, ScheduleError
from ppolab.learning.interface import UpdateStats
from ppolab.learning.schedules import check_schedules, clip_schedule, rate_schedule
from ppolab.records.metrics_file import read_metrics

eager_and_native = pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"anneal_lr": True}, "linear"), ({"anneal_lr": False}, "constant"),
        ({"anneal_lr": True, "lr_schedule": "constant"}, "constant"),
        ({"anneal_lr": False, "lr_schedule": "linear"}, "linear"),
        ({"lr_schedule": "sample_schedules:cosine"}, "sample_schedules:cosine"),
    ],
)  # fmt: skip
def test_lr_schedule_decides_where_there_is_one(settings: dict[str, Any], name: str) -> None:
    assert small_config(**settings).rate_schedule == name


def test_the_learning_rate_follows_a_function_of_the_user(tmp_path: Path) -> None:
    result = run_small(tmp_path, lr_schedule="sample_schedules:warmup", eval_interval=0, eval_episodes=1)
    rates = {row["step"]: row["optim/lr"] for row in read_metrics(result.folder.metrics) if "optim/lr" in row}
    steps = list(rates)
    before = [steps[0] - 64, *steps]  # the first rollout, of 64 steps, only fills the statistics
    expected = [0.01 * min(1.0, 10 * step / 640) for step in before[: len(steps)]]
    assert list(rates.values()) == pytest.approx(expected)
    assert rates[steps[0]] == pytest.approx(0.01) and len(steps) > 5


def test_resumed_runs_follow_the_schedule_bit_for_bit() -> None:
    keys = ("lr_schedule", "algorithm.clip_schedule", "entropy_schedule")
    own: dict[str, Any] = dict.fromkeys(keys, "sample_schedules:cosine") | {"entropy_coef": 0.1}
    whole, resumed = whole_and_resumed(small_config(total_steps=300, **own))
    assert torch.equal(whole, resumed)


def updated(algorithm: str, native: bool, **settings: Any) -> tuple[torch.Tensor, UpdateStats]:
    """The parameters after an update a quarter through a run, and its statistics."""
    config = algorithm_config(algorithm, **({"optimizer.lr": 1e-2} | settings))
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS, values=False)
    learner, flat = make_learner(policy, config, native=native)
    stats = learner.update(rollout, rollout.rewards, 0.25)
    return flat.vector.detach().clone(), stats


@eager_and_native
def test_half_the_clip_range_is_that_of_a_run_with_half_of_it(native: bool) -> None:
    def clipped(clip: float, schedule: str | None) -> tuple[torch.Tensor, UpdateStats]:
        return updated("ppo_clip", native, epochs=4, clip=clip, **{"algorithm.clip_schedule": schedule})

    scheduled, stats = clipped(0.2, "sample_schedules:half")
    expected, expected_stats = clipped(0.1, None)
    torch.testing.assert_close(scheduled, expected, rtol=0, atol=1e-6)
    assert stats.clip_fraction == pytest.approx(expected_stats.clip_fraction) and stats.clip_fraction > 0
    assert stats.extras == {"policy/clip": 0.1} and expected_stats.extras == {}
    assert (clipped(0.2, "constant")[0] - scheduled).abs().max() > 1e-4


@eager_and_native
@pytest.mark.parametrize("algorithm", ["ppo_clip", "ppo_penalty", "vpg", "a2c"])
def test_half_the_entropy_coefficient_is_that_of_a_run_with_half_of_it(algorithm: str, native: bool) -> None:
    def weighed(coefficient: float, schedule: str | None) -> tuple[torch.Tensor, UpdateStats]:
        return updated(algorithm, native, entropy_coef=coefficient, entropy_schedule=schedule)

    scheduled, stats = weighed(0.5, "sample_schedules:half")
    expected, expected_stats = weighed(0.25, None)
    torch.testing.assert_close(scheduled, expected, rtol=0, atol=1e-6)
    assert stats.extras == expected_stats.extras | {"policy/entropy_coef": 0.25}
    assert (weighed(0.5, "constant")[0] - scheduled).abs().max() > 1e-4


def test_the_shipped_schedules_are_what_the_switches_say() -> None:
    def parameters(**settings: Any) -> torch.Tensor:
        return trained_module(small_config(total_steps=300, **settings), 2).parameters_vector.vector.detach()

    assert torch.equal(parameters(anneal_lr=False), parameters(lr_schedule="constant"))
    assert torch.equal(parameters(), parameters(lr_schedule="linear"))
    annealed = parameters(**{"algorithm.anneal_clip": True})
    assert torch.equal(annealed, parameters(**{"algorithm.clip_schedule": "linear"}))
    assert not torch.equal(annealed, parameters())


# --- mistakes --------------------------------------------------------------------------------------------------------

LR, CLIP, ENTROPY = "lr_schedule", "algorithm.clip_schedule", "entropy_schedule"
MISTAKES = {
    (LR, "raises"): "raised LookupError: no such rate (",
    (LR, "not_a_number"): "returned nan at progress=0; the factor must be 0 or more",
    (LR, "negative"): "returned -0.25 at progress=0.75; the factor must be 0 or more",
    (LR, "text"): "returned fast at progress=0; the factor must be 0 or more",
    (LR, "Warmup"): "must be a function of the progress, from 0 to 1, that returns a factor, and is a class",
    (LR, "number"): "must be a function of the progress, from 0 to 1, that returns a factor, and is of type float",
    (LR, "cosin"): "the module sample_schedules has no cosin; did you mean 'cosine'?",
    (CLIP, "sixfold"): "returned 6 at progress=0; the factor must be from 0 to below 5, since clip=0.2",
    (ENTROPY, "negative"): "returned -0.25 at progress=0.75; the factor must be 0 or more",
    (CLIP, "negative"): "returned -0.25 at progress=0.75; the factor must be from 0 to below 5",
}


@pytest.mark.parametrize(("key", "name"), MISTAKES)
def test_a_mistake_is_one_line_before_the_run_begins(key: str, name: str) -> None:
    config = small_config(**{key: f"sample_schedules:{name}", "entropy_coef": 0.01})
    with pytest.raises(ConfigError) as raised:
        check_schedules(config)
    assert str(raised.value).startswith(f"{key}=sample_schedules:{name}: {MISTAKES[key, name]}")
    assert "\n" not in str(raised.value)


def test_a_learning_rate_may_grow() -> None:
    config = small_config(lr_schedule="sample_schedules:sixfold")
    check_schedules(config)
    assert rate_schedule(config).factor(0.5) == 6.0


def test_what_a_schedule_raises_later_names_it_and_the_line() -> None:
    config = small_config(lr_schedule="sample_schedules:raises_late")
    check_schedules(config)
    with pytest.raises(ScheduleError) as raised:
        rate_schedule(config).factor(0.1)
    told = str(raised.value)
    assert told.startswith("lr_schedule=sample_schedules:raises_late: raised LookupError: no such rate (")
    assert told.endswith("at progress=0.1") and "sample_schedules.py, line " in told
    assert isinstance(raised.value.__cause__, LookupError)


REFUSED = {
    "no such schedule": ({LR: "linaer"}, "lr_schedule=linaer: must be linear, constant, or .*did you mean 'linear'"),
    "no text": ({CLIP: 3}, "algorithm.clip_schedule=3: must be linear, constant, or a function of your own"),
    "of nothing": ({ENTROPY: "linear"}, "entropy_schedule=linear: multiplies entropy_coef, which is 0; set it"),
    "with the KL": ({"adapt_lr": True, LR: "linear"}, "adapt_lr=true: .* cannot also follow lr_schedule=linear; set"),
    "of another algorithm": ({"algorithm": "trpo", CLIP: "linear"}, "algorithm=trpo has no such setting"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        small_config(**settings)


def test_the_learning_rate_may_follow_the_kl_where_its_schedule_is_constant() -> None:
    assert small_config(adapt_lr=True, lr_schedule="constant", target_kl=0.01).adapt_lr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({LR: "constant", "anneal_lr": True}, "lr_schedule=constant: contradicts anneal_lr=true, which means"),
        ({LR: "linear", "anneal_lr": "false"}, "lr_schedule=linear: contradicts anneal_lr=false"),
        ({LR: "a:b", "anneal_lr": "true"}, "lr_schedule=a:b: contradicts anneal_lr=true"),
        ({CLIP: "constant", "algorithm.anneal_clip": True}, "contradicts algorithm.anneal_clip=true"),
        ({LR: "linear", "anneal_lr": True}, None),
        ({LR: "a:b", "anneal_lr": False}, None),
        ({LR: None, "anneal_lr": True}, None),
        ({"anneal_lr": True}, None),
    ],
)  # fmt: skip
def test_schedule_and_switch_that_are_both_given_must_agree(given: dict[str, Any], message: str | None) -> None:
    algorithm = small_config().algorithm
    if message is None:
        refuse_unread(algorithm, given)
        return
    with pytest.raises(ConfigError, match=message):
        refuse_unread(algorithm, given)


def test_a_run_of_before_there_were_schedules_is_read_as_before() -> None:
    stored = yaml_without(to_yaml(small_config(anneal_lr=False, **{"algorithm.anneal_clip": True})), "schedule:")
    assert "schedule:" not in stored
    config = from_yaml(stored)
    clip = clip_schedule(config)
    assert config.rate_schedule == "constant" and clip is not None and clip.factor(0.25) == 0.75


def yaml_without(text: str, part: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if part not in line)
