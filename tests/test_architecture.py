"""Which module may import which, and that schema, checks and configuration files speak of the same settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from helpers import make_config
from ppolab.config import Config, EvaluateConfig, algorithm_keys, known_keys
from ppolab.family import algorithm_names
from ppolab.folders import config_folder
from ppolab.report.settings import ReportConfig
from ppolab.rules import CHOICES, METRICS, RULES

SOURCE = Path(__file__).parents[1] / "src"
CONF = config_folder("conf")

LAYERS = (
    ("errors", "folders", "redaction", "startup"),
    ("family",),
    ("rules",),
    ("config",),
    (
        "core",
        "runs",
        "rendering",
        "own_group",
        "processes",
        "places",
        "parallel",
        "runlog",
        "hydra_guard",
    ),
    ("launch", "envs", "parameters", "normalization", "history", "progress", "checkpoint", "tracking"),
    ("policy", "objective", "resuming"),
    ("native", "rollout", "watchdog"),
    ("gradient", "evaluate"),
    ("epoch",),
    ("update",),
    ("value_function",),
    ("separate",),
    ("algorithms",),
    ("module",),
    ("services",),
    ("experiment", "evaluation_run"),
    ("study", "report"),
    ("answers", "help_page"),
    ("cli",),
)
"""Parts of ppolab, lowest first. A part imports lower ones, and modules of its own; `ppolab` itself is below all."""

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
OWNERS = {
    "hydra": {"answers", "cli", "config", "help_page", "hydra_guard", "hydra_plugins"},
    "pytorch_lightning": {"module", "services", "experiment"},
    "mlflow": {"tracking.store"},
    "optuna": {"study", "hydra_plugins"},
    "envpool": {"envs.envpool_backend", "envs.envpool_families"},
}
"""Packages that only some modules may import, since nothing else should change when they do."""

LIGHT = (
    "ppolab",
    "errors",
    "redaction",
    "runlog",
    "hydra_guard",
    "family",
    "config",
    "rules",
    "places",
    "runs",
    "rendering",
    "startup",
    "cli",
    "answers",
    "help_page",
    "resuming",
    "report",
    "envs",
    "tracking",
    "hydra_plugins",
)
"""Parts that answer a mistyped key, and therefore import no package that takes a second, except inside functions."""
HEAVY_PACKAGES = {"torch", "pytorch_lightning", "mlflow", "envpool", "matplotlib", "mujoco", "optuna"}


def modules() -> dict[str, Path]:
    """Dotted names below ppolab (`core.gae`), the plugins as one, and their files."""
    found = {".".join(path.relative_to(SOURCE / "ppolab").with_suffix("").parts): path for path in _files("ppolab")}
    plugins = {f"hydra_plugins.{path.stem}": path for path in _files("hydra_plugins")}
    return {name.removesuffix(".__init__"): path for name, path in (found | plugins).items()}


def _files(package: str) -> list[Path]:
    return sorted((SOURCE / package).rglob("*.py"))


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Every dotted name that a module imports; `at_import`: without those in functions and for type checking."""
    tree = ast.parse(path.read_text())
    for node in _executed(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not (typing_only or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield child
            yield from _executed(child)


def part_of(name: str) -> str:
    return name.partition(".")[0]


MODULES = modules()


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) not in ("__init__", "hydra_plugins")])
def test_imports_run_one_way(name: str) -> None:
    part = part_of(name)
    assert part in LEVEL, f"{part} has no place in LAYERS yet"
    for imported in imports(MODULES[name]):
        if imported.startswith("ppolab."):
            other = part_of(imported.removeprefix("ppolab."))
            if other in LEVEL and other != part:
                assert LEVEL[other] < LEVEL[part], f"{name} imports {imported}, which is not below it"


def test_the_table_names_no_part_that_is_gone() -> None:
    assert set(LEVEL) == {part_of(name) for name in MODULES} - {"__init__", "hydra_plugins"}


TRAINING = {"module", "services", "experiment", "rollout", "update", "epoch", "native", "policy", "envs", "checkpoint"}


def test_a_report_needs_nothing_of_what_trains() -> None:
    for name in (name for name in MODULES if part_of(name) == "report"):
        assert not TRAINING & {part_of(imported.removeprefix("ppolab.")) for imported in imports(MODULES[name])}, name


@pytest.mark.parametrize("package", OWNERS)
def test_package_is_imported_by_its_owners_only(package: str) -> None:
    for name, path in MODULES.items():
        if package in {part_of(imported) for imported in imports(path)}:
            assert name in OWNERS[package] or part_of(name) in OWNERS[package], f"{name} imports {package}"


def is_light(name: str) -> bool:
    """Hydra scans its plugins at every start, but not the modules whose names begin with an underscore."""
    return part_of(name) in LIGHT and not name.startswith("hydra_plugins._")


@pytest.mark.parametrize("name", [name for name in MODULES if is_light(name)])
def test_light_modules_import_nothing_heavy(name: str) -> None:
    assert not HEAVY_PACKAGES & {part_of(imported) for imported in imports(MODULES[name], at_import=True)}


def test_core_knows_tensors_only_and_statistics_arrays_only() -> None:
    for name, path in MODULES.items():
        if part_of(name) == "core":
            numbers = "numpy" if name == "core.statistics" else "torch"
            others = {part_of(imported) for imported in imports(path)} - {numbers, "ppolab"}
            assert others <= {"__future__", "math", "dataclasses", "typing", "collections"}, name


# --- configuration -----------------------------------------------------------------------------------------------


def options() -> list[str]:
    groups = [path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"]
    found = [
        (group.name, path.relative_to(group).with_suffix("")) for group in groups for path in group.rglob("*.yaml")
    ]
    return sorted(f"{group}={name}" for group, name in found)


@pytest.mark.parametrize("option", options())
def test_every_option_makes_a_valid_configuration(option: str) -> None:
    config = make_config(option)
    group, name = option.split("=")
    chosen = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    target = config if group in ("experiment", "algorithm") else getattr(config, group)
    for key, value in chosen.items():
        if key != "defaults" and not isinstance(value, dict):
            assert (target[key] if isinstance(target, dict) else getattr(target, key)) == value


def test_every_option_says_what_it_is_for() -> None:
    for option in options():
        group, name = option.split("=")
        text = (CONF / group / f"{name}.yaml").read_text()
        assert "#" in text or group == "optimizer", f"{option} has no line that explains it"


def settings_of(file: str) -> set[str]:
    """The keys of a configuration file and of the groups in its defaults."""
    content = yaml.safe_load((CONF / file).read_text())
    groups = {key for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    chosen = {key for key in groups if not key.startswith("override ")} - {"search", "experiment", "sampler", "pruner"}
    return (set(content) - {"defaults", "hydra"}) | chosen


def test_schema_and_files_have_the_same_settings() -> None:
    assert settings_of("config.yaml") == set(Config.__dataclass_fields__)
    assert settings_of("evaluate.yaml") == set(EvaluateConfig.__dataclass_fields__)
    assert settings_of("report.yaml") == set(ReportConfig.__dataclass_fields__)


@pytest.mark.parametrize("group", ["model", "trainer", "logger"])
def test_every_option_of_a_group_sets_every_setting(group: str) -> None:
    expected = {key.partition(".")[2] for key in known_keys(Config) if key.startswith(f"{group}.")}
    for path in (CONF / group).glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) == expected, path.name


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_has_a_module_and_a_file_that_says_what_it_reads(name: str) -> None:
    content = yaml.safe_load((CONF / "algorithm" / f"{name}.yaml").read_text())["algorithm"]
    config = make_config(f"algorithm={name}")
    assert config.algorithm == content and content["name"] == name
    others = set(known_keys(Config))
    assert set(content["ignores"]) <= others
    assert {need.partition("=")[0] for need in content.get("needs", [])} <= others


def test_there_is_a_file_for_every_algorithm_and_no_other() -> None:
    assert {path.stem for path in (CONF / "algorithm").glob("*.yaml")} == set(algorithm_names())


def test_checks_speak_of_settings_that_exist() -> None:
    optimizers = {
        f"optimizer.{key}" for path in (CONF / "optimizer").iterdir() for key in yaml.safe_load(path.read_text())
    }
    assert set(RULES) | set(CHOICES) <= {*known_keys(Config), *algorithm_keys()} | optimizers


def test_every_number_and_choice_is_checked() -> None:
    kinds = {key: Config.__dataclass_fields__[key].type for key in settings_of("config.yaml")}
    numbers = {key for key, kind in kinds.items() if "int" in str(kind) or "float" in str(kind)}
    assert numbers <= set(RULES)
    for name in METRICS:
        assert make_config(f"objective={name}").objective == name
