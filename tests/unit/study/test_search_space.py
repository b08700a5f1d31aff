"""Search spaces: from Hydra's grammar to Optuna's distributions, and values as settings."""

from __future__ import annotations

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.hydra_ppolab._override_grammar import dimension, is_listed, listed, range_in_words, written
from ppolab.errors import ConfigError
from ppolab.study.run_study import enqueued
from ppolab.study.search_space import Choice, Dimension, Interval, SearchSpace, distribution, overrides


def test_distributions() -> None:
    assert distribution(Interval(0.1, 0.5)) == FloatDistribution(0.1, 0.5)
    assert distribution(Interval(1e-5, 1e-2, log=True)) == FloatDistribution(1e-5, 1e-2, log=True)
    assert distribution(Interval(1, 9, integer=True, step=2)) == IntDistribution(1, 9, step=2)
    assert distribution(Choice(("a", "b"))) == CategoricalDistribution(("a", "b"))


def test_values_become_settings() -> None:
    values = {"clip": 0.1, "epochs": 3, "target_kl": "null", "normalize_rewards": True, "resume": None}
    assert overrides(values) == [
        "clip=0.1", "epochs=3", "target_kl=null", "normalize_rewards=true", "resume=null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "values", "line"),
    [
        ("seed=range(3)", ("0", "1", "2"), None),
        ("epochs=range(10,1,-3)", ("10", "7", "4"), None),
        (
            "clip=range(0.1,0.4,0.1)",
            ("0.1", "0.2", "0.30000000000000004", "0.4"),
            "clip=range(0.1,0.4,0.1) takes 4 values: 0.1, 0.2, 0.30000000000000004, 0.4",
        ),
        ("clip=0.1,0.2", ("0.1", "0.2"), None),
        ("target_kl=null,0.02", ("null", "0.02"), None),
    ],
)
def test_a_grid_takes_the_values_of_hydra(text: str, values: tuple[str, ...], line: str | None) -> None:
    override = OverridesParser.create().parse_override(text)
    assert is_listed(override)
    assert listed(override) == values
    assert range_in_words(override) == line


def test_a_long_range_is_told_in_short() -> None:
    override = OverridesParser.create().parse_override("clip=range(0.25,10,0.25)")
    assert range_in_words(override) == "clip=range(0.25,10,0.25) takes 39 values: 0.25, 0.5, 0.75, ..., 9.75"


def test_an_interval_lists_nothing() -> None:
    override = OverridesParser.create().parse_override("clip=interval(0.1,0.3)")
    assert not is_listed(override)
    assert range_in_words(override) is None


def test_a_range_may_run_downwards() -> None:
    override = OverridesParser.create().parse_override("epochs=range(10,1,-3)")
    assert dimension(override) == Interval(4.0, 10.0, integer=True, step=3.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (0.5, "0.5"), ("cartpole", "cartpole"), ("eval/return, time/total", None),
        ("it's \\ here", None), ([64, 32], "[64,32]"), ({"size": 3, "name": "a, b"}, "{size:3,name:'a, b'}"),
        ("", None), ("C:\\", None), ("\\'", None), ('{"a": "\\u00e9\\\\"}', None),
    ],
)  # fmt: skip
def test_any_value_can_be_written_as_an_override(value: object, text: str | None) -> None:
    """`text` None: only that Hydra reads back what was written."""
    parsed = OverridesParser.create().parse_override(f"key={written(value)}")
    assert parsed.value() == value
    assert text is None or written(value) == text


@pytest.mark.parametrize(
    ("dimensions", "told"),
    [
        ({}, "empty"),
        ({"clip": Interval(0.3, 0.1)}, "clip=interval(0.3,0.1)"),
        ({"optimizer.lr": Interval(0.0, 1.0, log=True)}, "above 0"),
        ({"env": Choice(())}, "env"),
    ],
)
def test_space_that_cannot_be_searched(dimensions: dict[str, Dimension], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(").replace(")", r"\)")):
        SearchSpace(dimensions).check()


def test_condition_adds_what_depends_on_the_rest() -> None:
    space = SearchSpace({"model": Choice(("wide", "small"))}, "study_parts.width")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [space.suggest(study.ask()) for _ in range(20)]
    assert {len(values) for values in seen} == {1, 2}
    assert all(("model.hidden_sizes" in values) == (values["model"] == "wide") for values in seen)


def test_condition_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no such function"):
        SearchSpace({}, "nowhere.f").suggest(optuna.create_study().ask())


def test_enqueued_choices_may_be_written_in_any_way() -> None:
    dimensions: dict[str, Dimension] = {
        "sizes": Choice(("[32,32]", "[16]")), "lr": Choice(("1e-3", "1e-4")), "kl": Choice(("null", "0.02")),
        "epochs": Interval(4, 20, integer=True, step=4), "clip": Interval(0.1, 0.3),
    }  # fmt: skip
    space = SearchSpace(dimensions)
    item = {"sizes": [32, 32], "lr": 0.001, "kl": None, "epochs": 8, "clip": 0.1}
    assert enqueued(item, space) == {"sizes": "[32,32]", "lr": "1e-3", "kl": "null", "epochs": 8, "clip": 0.1}
    for wrong in ({"sizes": [8]}, {"lr": "fast"}, {"epochs": 7}, {"epochs": 8.5}, {"clip": True}):
        with pytest.raises(ConfigError, match=f"enqueue: {next(iter(wrong))}="):
            enqueued(wrong, space)
