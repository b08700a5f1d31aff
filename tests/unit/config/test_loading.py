"""The edge where a configuration becomes a Config: one line for whatever does not fit the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ppolab.cli.error_lines import hydra_problem
from ppolab.config.files import config_folder
from ppolab.config.loading import type_problem
from ppolab.config.schema import Config, register_schemas


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("total_step", 3, "total_step: no such setting; did you mean 'total_steps'?"),
        ("model.hiden_sizes", [3], "model.hiden_sizes: no such setting; did you mean 'model.hidden_sizes'?"),
        ("qqqqqq", 3, "qqqqqq: no such setting; --help lists them"),
        ("num_envs", 4.5, "num_envs=4.5: must be a whole number; write num_envs=4"),
        ("model.dropout", "much", "model.dropout=much: must be a number"),
        ("anneal_lr", "maybe", "anneal_lr=maybe: must be true or false"),
        ("model.hidden_sizes", 64, "model.hidden_sizes: must be a list; write its items in brackets, as "
         "model.hidden_sizes=[A,B]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_schema_is_told_in_one_line(key: str, value: Any, told: str) -> None:
    with pytest.raises(OmegaConfBaseException) as raised:
        OmegaConf.merge(OmegaConf.structured(Config), _nested(key, value))
    assert type_problem(raised.value) == told


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


FILES = {
    "# @package _global_\ntotal_step: 3\n": "total_step: no such setting; did you mean 'total_steps'?",
    "# @package _global_\nmodel:\n  hiden_sizes: [3]\n": "model.hiden_sizes: no such setting; did you mean "
    "'model.hidden_sizes'?",
    "total_steps: 3\n": "experiment: no such setting; a file for experiment= must begin with the line '# @package "
    "_global_'",
}


@pytest.mark.parametrize("content", FILES)
def test_a_mistake_in_a_file_names_the_file_and_the_nearest_setting(content: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(content)
    register_schemas()
    with (
        initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"),
        pytest.raises(Exception, match=r"experiment/mine") as raised,
    ):
        compose("config", [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])
    assert hydra_problem(raised.value) == f"experiment/mine.yaml: {FILES[content]}"
