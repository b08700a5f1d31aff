"""What --help says of each setting."""

from __future__ import annotations

import pytest
from hydra.core.config_store import ConfigStore

from ppolab.cli.help_page import WIDTH, help_page
from ppolab.config.metrics import METRICS
from ppolab.config.schema import Config, EvaluateConfig, ExportConfig, SweepSettings, register_schemas
from ppolab.config.setting import settings_of
from ppolab.report.settings import ReportConfig


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
