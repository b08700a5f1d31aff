"""One source for a setting: what is derived from the schema, against the lists that were once written by hand."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from helpers import make_config
from hydra import compose, initialize_config_dir

from hydra_plugins.hydra_ppolab.sweeper import SweeperConfig
from ppolab.cli.error_lines import _nearest_key
from ppolab.cli.help_page import help_page
from ppolab.config.algorithms import ABOUT, algorithm_names, algorithms_with
from ppolab.config.checks import range_of
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.files import config_folder, option_groups, options_of
from ppolab.config.loading import from_hydra, from_yaml, to_yaml
from ppolab.config.rules import POSITIVE
from ppolab.config.schema import (
    Config,
    OptimizerSettings,
    effect_of,
    flattened,
    known_keys,
    may_be_perturbed,
    option_keys,
    perturbed_keys,
    register_schemas,
)
from ppolab.config.setting import EXECUTION, METADATA, Described, setting, settings_of
from ppolab.config.sweep_schema import ONLY_STUDIES, SWEEP_GROUPS, SWEEP_SETTINGS, SearchSettings, SweepSettings
from ppolab.errors import ConfigError
from ppolab.reports.method_names import tells_methods_apart
from ppolab.reports.settings import ReportConfig

CONF = config_folder("conf")
SCHEMAS = (Config, EvaluateConfig, ExportConfig, ReportConfig, OptimizerSettings, SearchSettings, SweepSettings)

# --- what the schema says, and what was once written by hand -----------------------------------------------------

POSITIVE_ONES = (
    "total_steps", "num_envs", "epochs", "target_kl", "eval_episodes", "keep_checkpoints", "algorithm.value_clip",
    "algorithm.d_targ", "algorithm.beta", "algorithm.max_kl", "trainer.devices", "trainer.num_nodes", "optimizer.lr",
    "optimizer.eps", "env.frame_stack", "sequence_length", "model.memory_size", "model.memory_layers",
)  # fmt: skip
NOT_NEGATIVE_ONES = (
    "value_coef", "entropy_coef", "max_grad_norm", "eval_interval", "checkpoint_interval", "env.num_threads",
    "env.timeout", "algorithm.damping", "trainer.threads", "optimizer.weight_decay",
)  # fmt: skip
WHOLE_ONES = ("algorithm.value_epochs", "algorithm.cg_steps", "algorithm.line_search_steps")
RULES: dict[str, Callable[[float], bool]] = {
    **dict.fromkeys(POSITIVE_ONES, lambda x: x > 0),
    **dict.fromkeys(NOT_NEGATIVE_ONES, lambda x: x >= 0),
    **dict.fromkeys(WHOLE_ONES, lambda x: x >= 1 and float(x).is_integer()),
    **dict.fromkeys(("clip", "algorithm.backtrack"), lambda x: 0 < x < 1),
    **dict.fromkeys(("gamma", "gae_lambda"), lambda x: 0 <= x <= 1),
    **dict.fromkeys(("model.dropout", "optimizer.momentum", "optimizer.alpha"), lambda x: 0 <= x < 1),
    **dict.fromkeys(("rollout_steps", "minibatch_size"), lambda x: x >= 2),
    "model.initial_log_std": lambda x: -10 <= x <= 10,
    "exploration.noise_color": lambda x: 0 <= x <= 2,
    "exploration.final_log_std": lambda x: -10 <= x <= 10,
    "seed": lambda x: 0 <= x < 2**32 and float(x).is_integer(),
}
CHOICES = {
    "compile": ("auto", "true", "false"),
    "env.action_mask": ("auto", "off"),
    "env.backend": ("auto", "envpool", "gymnasium", "warp"),
    "env.vectorization": ("sync", "async"),
    "model.activation": ("tanh", "relu", "elu", "gelu", "silu"),
    "model.memory": ("none", "gru", "lstm"),
    "model.trunk": ("separate", "shared"),
    "trainer.accelerator": ("cpu", "gpu", "auto"),
    "trainer.precision": ("fp32", "bf16"),
    "progress": ("bar", "full", "off"),
    "logger.kind": ("mlflow", "tensorboard", "none"),
}
CHANGES_RECORDS = (
    "total_steps", "eval_episodes", "eval_interval", "compile", "trainer.accelerator", "trainer.precision",
    "trainer.threads",
)  # fmt: skip
MAY_CHANGE_ON_RESUME = (
    *CHANGES_RECORDS, "resume", "checkpoint_interval", "keep_checkpoints", "objective", "logger.", "env.num_threads",
    "env.timeout", "callbacks", "progress", "rerun",
)  # fmt: skip
NOT_OF_THE_STUDY = (
    "logger.", "trainer.accelerator", "trainer.precision", "trainer.threads", "env.num_threads", "compile", "resume",
    "checkpoint_interval", "keep_checkpoints", "objective", "seed", "callbacks", "progress", "rerun",
)  # fmt: skip
NOT_OF_A_METHOD = (
    "seed", "env.", "logger.", "resume", "objective", "eval_interval", "eval_episodes", "checkpoint_interval",
    "keep_checkpoints", "compile", "trainer.accelerator", "trainer.precision", "trainer.threads", "algorithm.ignores",
    "algorithm.needs", "algorithm.optional", "algorithm.metrics", "callbacks", "progress", "rerun",
)  # fmt: skip
NOT_MENTIONED = ("logger.", "resume", "progress", "rerun")

PROBES = (-math.inf, -11, -10, -1, -0.5, 0, 1e-9, 0.5, 1, 1.5, 2, 3.0, 10, 11, 2**32 - 1, 2**32, math.inf, math.nan)


def all_keys() -> list[str]:
    """Every setting of every algorithm and optimizer, and some that no schema has."""
    groups = {key for key, found in settings_of(Config).items() if found.is_group} | {"optimizer", "algorithm"}
    further = ["env.kwargs.size", "env.of_another_version", "logger.of_another_version", "of_another_version"]
    facts = ["algorithm.needs", "algorithm.optional", "algorithm.metrics", "algorithm.ignores"]
    return [*(key for key in known_keys(Config) if key not in groups), *option_keys(), *facts, *further]


def starts(key: str, names: tuple[str, ...]) -> bool:
    return any(key.startswith(name) if name.endswith(".") else key == name for name in names)


@pytest.mark.parametrize("key", all_keys())
def test_effects_are_those_of_the_lists(key: str) -> None:
    effect = effect_of(key)
    assert effect.changes_records == (key in CHANGES_RECORDS)
    assert effect.resumable == starts(key, MAY_CHANGE_ON_RESUME)
    assert effect.of_study != starts(key, NOT_OF_THE_STUDY)
    assert tells_methods_apart(key) != starts(key, NOT_OF_A_METHOD)
    assert effect.mentioned != starts(key, NOT_MENTIONED)


def test_ranges_are_those_of_the_list() -> None:
    lists = {"model.hidden_sizes", "model.actor_sizes", "model.critic_sizes", "optimizer.betas"}
    keys = [key for key in all_keys() if key not in lists]
    ranged = set()
    for key in keys:
        group, _, name = key.partition(".")
        for algorithm in algorithms_with(name) if group == "algorithm" else ["ppo_clip"]:
            rule = range_of(key, algorithm)
            if rule is not None:
                ranged.add(key)
                assert [rule.holds(probe) for probe in PROBES] == [RULES[key](probe) for probe in PROBES], key
    assert ranged == set(RULES)


def test_choices_are_those_of_the_list() -> None:
    described = settings_of(Config)
    assert {key: found.setting.choices for key, found in described.items() if found.setting.choices} == CHOICES


def test_what_a_sweep_takes_is_that_of_the_lists() -> None:
    assert SWEEP_SETTINGS == (
        "n_trials", "timeout", "workers", "seeds_per_trial", "direction", "enqueue", "study_name", "storage",
        "max_failures", "population",
    )  # fmt: skip
    assert set(ONLY_STUDIES) == {
        "condition", "sampler", "pruner", "scheduler", "n_trials", "timeout", "enqueue", "study_name", "storage",
        "population",
    }  # fmt: skip
    plugin = {item.name for item in dataclasses.fields(SweeperConfig)} - {"_target_"}
    assert plugin == {*settings_of(SearchSettings), *settings_of(SweepSettings)}


def test_what_may_be_perturbed_is_that_of_the_list() -> None:
    """Nothing that a checkpoint holds depends on these: no shape, no environment, no running statistic."""
    assert set(perturbed_keys()) == {
        "optimizer.lr", "epochs", "minibatch_size", "clip", "target_kl", "gamma", "gae_lambda", "value_coef",
        "entropy_coef", "max_grad_norm",
    }  # fmt: skip
    for key in ("num_envs", "rollout_steps", "model.hidden_sizes", "env", "env.id", "optimizer", "optimizer.betas",
                "seed", "total_steps", "algorithm.anneal_clip", "optimizer.unknown", "nothing"):  # fmt: skip
        assert not may_be_perturbed(key)


def test_groups_are_the_folders() -> None:
    assert set(SWEEP_GROUPS) == {"search", "sampler", "pruner", "scheduler"}
    assert set(option_groups("conf")) == {"env", "model", "optimizer", "algorithm", "trainer", "logger", "experiment"}


def test_optimizer_keys_are_those_of_the_files() -> None:
    keys = {key for key in option_keys() if key.startswith("optimizer.")}
    assert {"optimizer.lr", "optimizer.betas", "optimizer.alpha", "optimizer.fused", "optimizer.nesterov"} <= keys
    for name in options_of("optimizer"):
        assert {
            f"optimizer.{key}" for key in flattened(yaml.safe_load((CONF / f"optimizer/{name}.yaml").read_text()))
        } <= keys


# --- the files in conf/ -------------------------------------------------------------------------------------------


def settings_in(file: str) -> set[str]:
    """The keys of a configuration file and of the groups in its defaults."""
    content = yaml.safe_load((CONF / file).read_text())
    groups = {key for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    sweeps = {"search", "experiment", "sampler", "pruner", "scheduler"}
    chosen = {key for key in groups if not key.startswith("override ")} - sweeps
    return (set(content) - {"defaults", "hydra"}) | chosen


def test_schema_and_files_have_the_same_settings() -> None:
    assert settings_in("config.yaml") == set(Config.__dataclass_fields__)
    assert settings_in("evaluate.yaml") == set(EvaluateConfig.__dataclass_fields__)
    assert settings_in("export.yaml") == set(ExportConfig.__dataclass_fields__)
    assert settings_in("report.yaml") == set(ReportConfig.__dataclass_fields__)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_field_has_words(schema: type) -> None:
    assert all(METADATA in item.metadata for item in dataclasses.fields(schema))
    for key, found in settings_of(schema).items():
        assert found.setting.words and "\n" not in found.setting.words, key


def test_every_number_has_a_rule() -> None:
    for key, found in settings_of(Config).items():
        assert found.setting.rule is not None or found.kind not in (int, float), key


def commented(file: str, described: dict[str, Described]) -> str:
    """The text of a file in conf/ as the schema would comment it."""
    lines, group = [], ""
    for line in (CONF / file).read_text().splitlines():
        match = re.match(r"( *)(\w+):( [^#]*[^# ])?", line)
        if match:
            indent, key, value = match.groups()
            group = group if indent else key
            found = described.get(f"{group}.{key}" if indent else key)
            line = f"{indent}{key}:{value or ''} # {found.setting.comment}" if found else line
        lines.append(line)
    return "\n".join(lines) + "\n"


def of_group(group: str) -> dict[str, Described]:
    return {key.partition(".")[2]: found for key, found in settings_of(Config).items() if key.startswith(f"{group}.")}


@pytest.mark.parametrize(
    ("file", "described"),
    [
        ("config.yaml", settings_of(Config)),
        ("evaluate.yaml", settings_of(EvaluateConfig)),
        ("export.yaml", settings_of(ExportConfig)),
        ("report.yaml", settings_of(ReportConfig)),
        ("model/mlp.yaml", of_group("model")),
        ("trainer/cpu.yaml", of_group("trainer")),
        ("logger/mlflow.yaml", of_group("logger")),
    ],
)
def test_comments_are_the_words_of_the_schema(file: str, described: dict[str, Described]) -> None:
    assert (CONF / file).read_text() == commented(file, described)


@pytest.mark.parametrize("group", ["model", "trainer", "logger"])
def test_every_option_of_a_group_sets_every_setting(group: str) -> None:
    expected = {key.partition(".")[2] for key in known_keys(Config) if key.startswith(f"{group}.")}
    for path in (CONF / group).glob("*.yaml"):
        found = yaml.safe_load(path.read_text())
        if found.pop("defaults", None) == ["mlp"]:  # the rest is that option's
            assert set(found) < expected, path.name
        else:
            assert set(found) == expected, path.name


def all_options() -> list[str]:
    groups = [path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"]
    found = [
        (group.name, path.relative_to(group).with_suffix("")) for group in groups for path in group.rglob("*.yaml")
    ]
    return sorted(f"{group}={name}" for group, name in found)


NOT_BY_THEMSELVES = ("optimizer=own",)
"""Options that need a setting beside them."""


@pytest.mark.parametrize("option", [option for option in all_options() if option not in NOT_BY_THEMSELVES])
def test_every_option_makes_a_valid_configuration(option: str) -> None:
    config = make_config(option)
    group, name = option.split("=")
    chosen = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    target = config if group in ("experiment", "algorithm") else getattr(config, group)
    for key, value in chosen.items():
        if key != "defaults" and not isinstance(value, dict):
            assert (target[key] if isinstance(target, dict) else getattr(target, key)) == value


def test_every_option_says_what_it_is_for() -> None:
    for option in all_options():
        group, name = option.split("=")
        text = (CONF / group / f"{name}.yaml").read_text()
        assert "#" in text or group == "optimizer", f"{option} has no line that explains it"


# --- a setting that is added --------------------------------------------------------------------------------------


@pytest.fixture
def patience() -> Iterator[None]:
    """One more field of Config, and nothing else."""
    added = setting("steps that somebody waits", 5, rule=POSITIVE, effect=EXECUTION)
    made = dataclasses.make_dataclass("Made", [("patience", int, added)])
    original = Config.__init__

    def with_patience(self: Config, *arguments: Any, patience: int = 5, **others: Any) -> None:
        original(self, *arguments, **others)
        vars(self)["patience"] = patience

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "__init__", with_patience)
        patch.setitem(Config.__dataclass_fields__, "patience", made.__dataclass_fields__["patience"])
        patch.setitem(Config.__annotations__, "patience", int)
        settings_of.cache_clear()
        register_schemas()
        yield
    settings_of.cache_clear()
    register_schemas()


def composed(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


@pytest.mark.usefixtures("patience")
def test_a_setting_is_added_in_one_place() -> None:
    assert flattened(composed("patience=7"))["patience"] == 7
    with pytest.raises(ConfigError, match=r"^patience=0: must be greater than 0$"):
        composed("patience=0")
    assert "patience" in known_keys(Config)
    assert _nearest_key("patiense") == "; did you mean 'patience'?"
    assert effect_of("patience") == EXECUTION
    assert not tells_methods_apart("patience")
    assert range_of("patience", "ppo_clip") == POSITIVE
    (line,) = [line for line in help_page("config", ["patience=7"]).splitlines() if "patience" in line]
    assert line.split() == ["patience=7", "steps", "that", "somebody", "waits", "(whole", "number,", ">", "0)"]


def test_and_is_gone_again() -> None:
    assert "patience" not in known_keys(Config)


# --- stored configurations ----------------------------------------------------------------------------------------


def stored(name: str, **algorithm: Any) -> str:
    """A configuration as runs of the first version with several algorithms keep it."""
    content = yaml.safe_load(to_yaml(make_config(f"algorithm={name}")))
    content["algorithm"].update(algorithm)
    return yaml.safe_dump(content)


@pytest.mark.parametrize("name", algorithm_names())
def test_stored_configurations_hold_no_new_facts_and_can_be_read(name: str) -> None:
    config = make_config(f"algorithm={name}")
    assert not {"ranges", "conditions"} & set(config.algorithm)
    assert set(config.algorithm) & set(ABOUT) <= {"name", "ignores", "needs", "optional", "metrics"}
    assert from_yaml(stored(name)) == config


def test_facts_in_a_stored_configuration_give_way_to_the_file() -> None:
    text = stored("trpo", ignores=["gamma"], needs=["model.trunk=shared"], metrics=["made/up"], optional=["max_kl"])
    assert from_yaml(text) == make_config("algorithm=trpo")
    old = yaml.safe_load(stored("trpo"))
    del old["algorithm"]["ignores"]
    assert from_yaml(yaml.safe_dump(old)) == make_config("algorithm=trpo")


@pytest.mark.parametrize("fact", ["ignores=[]", "needs=[]", "optional=[max_kl]", "ranges.max_kl='< 9'"])
def test_facts_cannot_be_changed_from_outside(fact: str) -> None:
    name = re.split(r"[.=]", fact)[0]
    with pytest.raises(ConfigError, match=rf"algorithm\.{name}=.* is no setting"):
        composed("algorithm=trpo", f"++algorithm.{fact}")
