"""The checks of a configuration: rules of single settings, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import make_config

from ppolab.config.checks import check_values
from ppolab.config.command_schema import EvaluateConfig
from ppolab.config.metrics import METRICS
from ppolab.config.schema import Config
from ppolab.config.setting import settings_of
from ppolab.errors import ConfigError

RULED = [key for key, found in settings_of(Config).items() if found.setting.rule or found.setting.choices]


@pytest.mark.parametrize("key", RULED)
def test_every_rule_is_checked(key: str) -> None:
    found = settings_of(Config)[key]
    bad: Any = "neither" if found.setting.choices else [-20] if found.item_kinds else -20
    with pytest.raises(ConfigError, match=rf"^{key}=.*: must "):
        make_config(**{key: bad})


WRONG = {
    "lists in a list": ("model.hidden_sizes", [[64, 64], [256]], "must be a list of whole numbers"),
    "a layer without units": ("model.hidden_sizes", [64, 0], "each of them must be 1 or more"),
    "a number for two": ("optimizer.betas", 0.9, "must be two numbers"),
    "one of two": ("optimizer.betas", [0.9], "must be two numbers"),
    "text among numbers": ("optimizer.betas", ["a", 0.9], "must be two numbers"),
    "lists for numbers": ("optimizer.betas", [[0.9], [0.99]], "must be two numbers"),
    "a memory without end": ("optimizer.betas", [0.9, 1], "each of them must be at least 0 and less than 1"),
    "a list for a number": ("optimizer.lr", [1e-3], "must be a number"),
    "true for a number": ("optimizer.lr", True, "must be a number"),
    "text for a switch": ("optimizer.fused", "yes", "must be true or false"),
    "no step": ("optimizer.lr", 0, "must be greater than 0"),
    "a list for an algorithm's number": ("algorithm.value_clip", [0.2], "must be a number"),
    "no algorithm of this name": ("algorithm.name", "ppo_clp", "did you mean 'ppo_clip'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_the_wrong_shape_is_answered_in_one_line(name: str) -> None:
    key, value, rule = WRONG[name]
    with pytest.raises(ConfigError, match=rf"^{key}[^\n]*: [^\n]*{rule}[^\n]*$"):
        make_config(**{key: value})


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ([[64, 64], [256]], "write model.actor_sizes=[64,64] model.critic_sizes=[256]"),
        ([64, [32, 256]], "write model.actor_sizes=[64] model.critic_sizes=[32,256]"),
    ],
)
def test_sizes_of_two_networks_are_led_to_settings_of_their_own(given: list[Any], fix: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config(**{"model.hidden_sizes": given})
    assert str(raised.value) == (
        f"model.hidden_sizes={given}: must be a list of whole numbers; for an actor and a critic of different sizes, "
        f"{fix}"
    )


@pytest.mark.parametrize("key", ["model.actor_sizes", "model.critic_sizes"])
def test_a_shared_trunk_has_one_size(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config(**{"model.trunk": "shared", key: [8]})
    assert str(raised.value) == (
        f"{key}=[8]: a shared trunk has one size, model.hidden_sizes; set model.trunk=separate, or leave it out"
    )


def test_dropout_needs_a_hidden_layer_somewhere() -> None:
    assert make_config(**{"model.dropout": 0.1, "model.hidden_sizes": [], "model.critic_sizes": [8]}).model.dropout
    with pytest.raises(ConfigError, match=r"model\.dropout=0\.1: there is no hidden layer"):
        make_config(**{"model.dropout": 0.1, "model.actor_sizes": [], "model.critic_sizes": []})


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("algorithm=trpo", "algorithm.backtrack=1.5"),
            r"algorithm\.backtrack=1\.5: must lie strictly between 0 and 1",
        ),
        (("algorithm=trpo", "algorithm.cg_steps=0"), r"algorithm\.cg_steps=0: must be a whole number of 1 or more"),
        (("algorithm=npg", "algorithm.damping=-0.5"), r"algorithm\.damping=-0\.5: must be 0 or more"),
        (("algorithm=ppo_penalty", "algorithm.beta=null"), r"algorithm\.beta=null: must be a number"),
        (("algorithm.value_epochs=2", "model.trunk=shared"), r"value_epochs=2: .*; set model\.trunk=separate"),
        (("algorithm=ppo_penalty", "target_kl=0.001"), r"d_targ=0\.01: must not exceed target_kl=0\.001; .*=null"),
    ],
)
def test_an_algorithm_s_rules_stand_in_its_file(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(*overrides)


def test_a_condition_holds_for_settings_that_are_set() -> None:
    assert make_config("algorithm=ppo_penalty", "target_kl=0.001", "algorithm.d_targ=null").algorithm["d_targ"] is None
    assert make_config("algorithm=ppo_penalty", "target_kl=null", "algorithm.d_targ=0.5").target_kl is None
    assert make_config("model.trunk=shared").algorithm["value_epochs"] is None


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_an_objective(metric: str) -> None:
    assert make_config(objective=metric).objective == metric


def test_other_schemas_are_checked_by_the_same_rules() -> None:
    check_values(EvaluateConfig(run="."))
    for wrong in ({"episodes": 0}, {"checkpoint": "first"}, {"seed": -1}):
        (key,) = wrong
        with pytest.raises(ConfigError, match=rf"^{key}="):
            check_values(EvaluateConfig(run=".", **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"logger": "none", "logger.register": "pole"}, r"^logger\.register=pole: needs MLflow; set logger=mlflow$"),
        ({"logger.register": "a/b"}, r"^logger\.register=a/b: must be a name without / and :, such as"),
        ({"logger.register": " "}, r"^logger\.register= : must be a name without / and :, such as"),
    ],
)
def test_a_model_is_registered_in_mlflow_under_a_name_of_its_own(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(**changes)
    assert make_config(**{"logger.register": "pole"}).logger.register == "pole"
