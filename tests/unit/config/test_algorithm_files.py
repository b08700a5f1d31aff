"""The files of algorithms, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import make_config

from ppolab.config import algorithms, files
from ppolab.config.algorithms import FILE_ONLY, algorithm_names, check_algorithm, ranges_of
from ppolab.config.files import comments_in, option_file, options_of
from ppolab.config.schema import Config, known_keys
from ppolab.errors import ConfigError


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_has_a_module_and_a_file_that_says_what_it_reads(name: str) -> None:
    content = yaml.safe_load(option_file("algorithm", name).read_text())["algorithm"]
    config = make_config(f"algorithm={name}")
    assert config.algorithm == {key: value for key, value in content.items() if key not in FILE_ONLY}
    assert content["name"] == name
    others = set(known_keys(Config))
    assert set(content["ignores"]) <= others
    assert {need.partition("=")[0] for need in content.get("needs", [])} <= others
    for condition in content.get("conditions", []):
        assert condition["setting"] in content
        other = condition["needs"].partition("=")[0] if "needs" in condition else condition["at_most"]
        assert other in others


@pytest.mark.parametrize("name", algorithm_names())
def test_every_setting_of_an_algorithm_has_words_and_every_number_a_range(name: str) -> None:
    words = comments_in(option_file("algorithm", name))
    for key, default in algorithms.defaults_of(name).items():
        assert words[key]
        assert isinstance(default, bool) or key in ranges_of(name) or key in algorithms.about(name).get("schedules", {})


def test_there_is_a_file_for_every_algorithm_and_no_other() -> None:
    assert set(options_of("algorithm")) == set(algorithm_names())


def test_configuration_knows_no_shipped_algorithm() -> None:
    """Their names and settings stand in their files alone; an error message may name one as an example."""
    settings = {key for name in algorithm_names() for key in algorithms.defaults_of(name)}
    for path in Path(files.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert not [key for key in settings if f'"{key}"' in text or f"algorithm.{key}" in text], path.name


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an algorithm that is not shipped, without its module."""
    monkeypatch.setattr(algorithms, "algorithm_names", lambda: ("made_up",))
    monkeypatch.setattr(files, "config_folder", lambda _: tmp_path)
    for cached in (files._content, ranges_of):
        cached.cache_clear()
    file = tmp_path / "algorithm/made_up.yaml"
    file.parent.mkdir()
    return file


TEXT = """
algorithm:
  name: made_up
  width: 0.2 # how far
  rounds: null # how often
  ignores: [clip]
  ranges: {width: "> 0, < 1", rounds: "whole, >= 2"}
  conditions: [{setting: rounds, at_most: epochs, reason: there are no more}]
"""


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"width": 1}, "algorithm.width=1: must lie strictly between 0 and 1"),
        ({"width": "wide"}, "algorithm.width=wide: must be a number"),
        ({"rounds": 1}, "algorithm.rounds=1: must be a whole number of 2 or more"),
        ({"rounds": 2.5}, "algorithm.rounds=2.5: must be a whole number, such as 2"),
        ({"rounds": 5}, "algorithm.rounds=5: must not exceed epochs=4; there are no more"),
        ({"widht": 0.1}, "algorithm.widht: algorithm=made_up has no such setting; did you mean 'width'?"),
    ],
)
def test_a_file_is_all_that_checks_need(settings: dict[str, object], told: str, made_up: Path) -> None:
    made_up.write_text(TEXT)
    algorithm = {"name": "made_up", "width": 0.2, "rounds": None, "ignores": ["clip"]}
    values = {f"algorithm.{key}": value for key, value in (algorithm | settings).items()} | {"epochs": 4}
    check_algorithm(algorithm, {**values, "algorithm.rounds": None}.get)
    with pytest.raises(ConfigError) as raised:
        check_algorithm(algorithm | settings, values.get)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('{width: "between 0 and 1"}', "conf/algorithm/made_up.yaml: ranges.width: 'between 0 and 1' is no bound"),
        ('{widht: "> 0"}', "conf/algorithm/made_up.yaml: ranges.widht: is no setting of it; did you mean 'width'?"),
    ],
)
def test_a_range_that_cannot_be_read_names_its_file(wrong: str, told: str, made_up: Path) -> None:
    made_up.write_text(TEXT.replace('{width: "> 0, < 1", rounds: "whole, >= 2"}', wrong))
    with pytest.raises(ConfigError) as raised:
        ranges_of("made_up")
    assert str(raised.value).startswith(told)
