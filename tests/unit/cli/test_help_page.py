"""What --help says of each setting."""

from __future__ import annotations

import pytest
from hydra.core.config_store import ConfigStore

from ppolab.cli.help_page import WIDTH, help_overview, help_page
from ppolab.cli.help_parts import help_for
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.files import option_groups
from ppolab.config.metrics import METRICS
from ppolab.config.schema import Config, register_schemas
from ppolab.config.setting import settings_of
from ppolab.config.sweep_schema import SweepSettings
from ppolab.errors import ConfigError
from ppolab.reports.settings import ReportConfig


def page(name: str, *overrides: str) -> str:
    register_schemas()
    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    return help_page(name, list(overrides))


@pytest.mark.parametrize(
    ("name", "schema"),
    [("config", Config), ("evaluate", EvaluateConfig), ("report", ReportConfig), ("export", ExportConfig)],
)
def test_every_setting_has_a_line_with_value_words_and_choices(name: str, schema: type) -> None:
    text = page(name)
    flat = " ".join(text.split())
    for key, found in settings_of(schema).items():
        assert found.setting.words in flat
        if not found.is_group and key not in ("optimizer", "algorithm"):
            assert f"\n{key}=" in text, key
        if found.setting.choices:
            assert f"({', '.join(found.setting.choices)})" in flat


def test_a_line_by_hand() -> None:
    lines = page("config", "env=ant", "optimizer=sgd", "algorithm=trpo", "+env.kwargs.size=3").splitlines()
    for line in (
        "clip=0.2                            the probability ratio is clipped to [1 - clip, 1 + clip] "
        "(number, > 0, < 1)",
        "value_coef=0.5                      weight of the value loss (number, >= 0)",
        "env=ant: the environment",
        "env.kwargs.size=3                   (whole number)",
        "model.hidden_sizes=[64,64]          units of each hidden layer (list of whole numbers, >= 1)",
        "optimizer.nesterov=false            look ahead along the momentum (true or false)",
        "algorithm.backtrack=0.8             each is this many times as long as the one before it (number, > 0, < 1)",
        "policy/step_fraction                share of the whole step that was made; 0: none was good enough",
    ):
        assert line in lines
    assert not any(line.startswith(("algorithm.name", "algorithm.ranges", "optimizer.betas")) for line in lines)


def test_sweeps_and_metrics_have_their_lines() -> None:
    lines = page("config").splitlines()
    for key in (*settings_of(SweepSettings), *METRICS):
        assert any(line.startswith((f"{key}=", f"{key} ")) for line in lines), key


def test_columns_fit() -> None:
    settings = page("config").partition("== Settings")[2]
    assert max(map(len, settings.splitlines())) <= WIDTH


# --- parts -----------------------------------------------------------------------------------------------------------


def part(*arguments: str, name: str = "config") -> str:
    page(name)  # registers the schemas
    return help_for(name, arguments, [argument for argument in arguments if "=" in argument])


def test_the_overview_names_every_setting_and_how_to_ask_for_more() -> None:
    register_schemas()
    text = help_overview()
    words = set(text.replace(",", " ").split())
    for key, found in settings_of(Config).items():
        if not found.is_group:
            assert key in words or key.rpartition(".")[2] in words, key
    assert set(settings_of(SweepSettings)) <= words
    assert "--help PART" in text
    assert part() == text


def test_one_setting() -> None:
    assert part("optimizer.lr") == "optimizer.lr=0.0006                 learning rate (number, > 0)"
    assert part("clip=0.1").startswith("clip=0.1    ")
    assert (
        part("episodes", name="evaluate")
        == "episodes=10                         how many are played (whole number, > 0)"
    )
    assert part("confidence", name="report").startswith("confidence=0.95 ")


@pytest.mark.parametrize("typed", ["lr", "learning_rate"])
def test_a_setting_by_its_last_name_or_the_name_elsewhere(typed: str) -> None:
    assert part(typed) == part("optimizer.lr")


def test_a_group_has_its_options_and_settings() -> None:
    lines = part("model").splitlines()
    assert "  mlp                               Fully connected actor and critic." in lines
    assert "model.activation=tanh               what follows each hidden layer (tanh, relu, elu, gelu, silu)" in lines
    assert not any(line.startswith("env") for line in lines)


def test_an_option_has_its_own_settings_and_facts() -> None:
    lines = part("algorithm=trpo").splitlines()
    assert lines[0] == "algorithm=trpo: what a rollout becomes"
    assert lines[1].startswith("algorithm.max_kl=0.01               no update moves the policy further: ")
    assert "needs                               model.trunk=separate" in lines
    assert any(line.startswith("does not read                       clip, epochs,") for line in lines)


def test_several_parts_stand_one_after_another() -> None:
    assert part("clip", "gamma") == f"{part('clip')}\n\n{part('gamma')}"


@pytest.mark.parametrize("group", [*option_groups("conf"), *option_groups("sweeps")])
def test_every_option_has_words(group: str) -> None:
    options = [line for line in part(group).splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert options
    assert all(len(line.split()) > 1 for line in options if "/" not in line), options


def test_sweep_and_metrics_are_parts() -> None:
    assert part("sweep").startswith("Of a sweep, with -m:\nn_trials=null ")
    assert "\npolicy/kl                           KL divergence" in part("metrics")


def test_other_commands_have_no_groups_of_a_training() -> None:
    register_schemas()
    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    assert help_for("report", ["experiment"], []).startswith("runs.experiment=null ")
    with pytest.raises(ConfigError, match="--help env: no such setting or group"):
        help_for("evaluate", ["env"], [])
