"""The documentation names only files, headings, tests and settings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ppolab.config.algorithms import ABOUT
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.metrics import stored_metric_names
from ppolab.config.schema import Config, known_keys
from ppolab.reports.settings import ReportConfig

ROOT = Path(__file__).parents[2]
WRITTEN = [
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs/tutorials").glob("*.md"),
    *(ROOT / "docs/reference").glob("*.md"),
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(WRITTEN)]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w/.])((?:src|tests|conf|sweeps|benchmarks|findings|docs)/[\w./-]*\w)")
TEST = re.compile(r"`(?:(test_\w+\.py)|…)::(test_\w+)`")
COMMAND = re.compile(
    r"(?:python src/(train|evaluate|report|export)\.py|ppolab-(train|evaluate|report|export)) ([^`|\n]*)"
)
ARGUMENT = re.compile(r"""(?:^|(?<=\s))(["']?)([\w./]+)=('[^']*'|\S*)""")

OWN_FILES = {
    "src/ppolab/learning/algorithms/spo.py",
    "src/ppolab/learning/algorithms/NAME.py",
    "conf/algorithm/spo.yaml",
    "conf/algorithm/NAME.yaml",
    "conf/env/NAME.yaml",
    "conf/env/parking.yaml",
    "conf/experiment/NAME.yaml",
    "conf/experiment/mine.yaml",
    "conf/model/NAME.yaml",
    "conf/model/wide.yaml",
    "conf/optimizer/NAME.yaml",
    "conf/optimizer/nadam.yaml",
    "conf/search/NAME.yaml",
    "sweeps/search/NAME.yaml",
    "sweeps/search/spo.yaml",
    "findings/NAME.sh",
}
"""Files that a reader is told to write."""

OWN_OPTIONS = {
    "algorithm=spo", "algorithm=my_package:spo", "algorithm=my_algorithms:spo",
    "env=parking", "experiment=mine", "search=spo", "model=wide", "optimizer=nadam",
}  # fmt: skip
"""What such files make possible."""

OPEN_GROUPS = ("hydra.", "hydra/", "env.kwargs.", "model.kwargs.", "tags.", "pruner.", "sampler.", "scheduler.")
"""Groups whose settings no schema knows."""

OWN_SETTINGS = {"algorithm.width", "optimizer.class"}

GROUPS = {
    "algorithm": "conf/algorithm", "env": "conf/env", "experiment": "conf/experiment", "logger": "conf/logger",
    "model": "conf/model", "optimizer": "conf/optimizer", "pruner": "sweeps/pruner", "sampler": "sweeps/sampler",
    "scheduler": "sweeps/scheduler",
    "search": "sweeps/search", "trainer": "conf/trainer",
}  # fmt: skip
OF_A_SWEEP = {
    "n_trials", "timeout", "workers", "seeds_per_trial", "direction", "enqueue", "study_name", "storage",
    "max_failures", "condition", "population",
}  # fmt: skip


@cache
def text_of(page: Path) -> str:
    return page.read_text()


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(path or "", anchor or "") of every link that stays in the project."""
    for target in LINK.findall(text_of(page)):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = ROOT / name
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: there is no {path}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {path or name} has no heading #{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_named_files_exist(name: str) -> None:
    for path in FILE.findall(text_of(ROOT / name)):
        assert path in OWN_FILES or (ROOT / path).exists(), f"{name}: there is no {path}"


def test_every_promise_of_reliability_names_a_test_that_exists() -> None:
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    page, latest, count = text_of(ROOT / "docs" / "reliability.md"), "", 0
    for file, test in TEST.findall(page):
        latest = file or latest
        assert latest in files, f"docs/reliability.md: there is no {latest}"
        assert f"def {test}(" in text_of(files[latest]), f"docs/reliability.md: {latest} has no {test}"
        count += 1
    assert count >= 40


def commands(name: str) -> Iterator[tuple[str, str, str]]:
    """(train, evaluate or report; key; value) of every setting in a quoted command. `\\` continues a line."""
    text = re.sub(r"\s*\\\n\s*", " ", text_of(ROOT / name))
    for source, installed, arguments in COMMAND.findall(text):
        for _, key, value in ARGUMENT.findall(arguments.partition(" #")[0]):
            if key != "KEY":
                yield source or installed, key, value


@cache
def keys_of_options(group: str) -> set[str]:
    """The settings in the files of conf/algorithm or conf/optimizer, by dotted name."""
    contents = [yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / group).glob("*.yaml")]
    sections = [content.get("algorithm", {}) if group == "algorithm" else content for content in contents]
    return {f"{group}.{key}" for section in sections for key in section if key not in (*ABOUT, "_target_")}


@cache
def settings_of(command: str) -> set[str]:
    """The settings and groups that a command knows."""
    if command == "evaluate":
        return set(known_keys(EvaluateConfig))
    if command == "export":
        return set(known_keys(ExportConfig))
    if command == "report":
        return set(known_keys(ReportConfig)) | {"experiment", "study"}
    options = keys_of_options("algorithm") | keys_of_options("optimizer")
    return {*known_keys(Config), *options, *GROUPS, *OF_A_SWEEP, *OWN_SETTINGS}


@pytest.mark.parametrize("name", NAMES)
def test_quoted_commands_name_known_settings_and_options(name: str) -> None:
    for command, key, value in commands(name):
        known = key in settings_of(command) or key.startswith(OPEN_GROUPS)
        assert known, f"{name}: {command} has no setting {key}"
        if command == "train" and key in GROUPS:
            for option in value.split(","):
                there = (ROOT / GROUPS[key] / f"{option}.yaml").is_file()
                placeholder = option.isupper() or f"{key}={option}" in OWN_OPTIONS
                assert there or placeholder, f"{name}: there is no {key}={option}"


def make_targets(name: str) -> set[str]:
    """What a page tells to make."""
    return set(re.findall(r"(?:`|^    )make ([a-z-]+)", text_of(ROOT / name), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_named_targets_are_in_the_makefile(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in make_targets(name):
        assert target in targets, f"{name}: there is no make {target}"


def test_commands_links_and_files_are_found_at_all() -> None:
    assert {"train", "ui", "help"} <= make_targets("README.md")
    assert ("docs/environments.md", "") in set(links(ROOT / "README.md"))
    assert "src/ppolab/training/module.py" in FILE.findall(text_of(ROOT / "docs" / "how_it_works.md"))
    found = set(commands("README.md"))
    assert {("train", "clip", "0.1"), ("evaluate", "episodes", "20"), ("report", "experiment", "ppolab")} <= found


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_part_of_a_table(name: str) -> None:
    lines = ["", *(ROOT / name).read_text().splitlines(), ""]
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if line.startswith("| ") and not before.startswith("|"):
            assert after.startswith("| --"), line


def test_settings_and_metrics_each_have_a_row() -> None:
    rows = {
        key
        for page in ("settings.md", "algorithms.md", "metrics.md")
        for cells in re.findall(r"^\| (`.*?) \|", text_of(ROOT / "docs" / page), re.MULTILINE)
        for key in re.findall(r"`([^`]+)`", cells)
    }
    wanted = {*(set(known_keys(Config)) - {"exploration"}), *keys_of_options("algorithm"), *stored_metric_names()}
    assert sorted(wanted - rows) == []


def test_the_example_of_a_callback_ends_a_run_once_it_is_solved() -> None:
    page = text_of(ROOT / "docs" / "extending.md")
    (code,) = re.findall(r"```python\n(# my_package\.py\nimport pytorch_lightning.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    callback, module = names["StopWhenSolved"](), SimpleNamespace(steps=2048)
    for value, stops in ((474.0, False), (475.0, True)):
        trainer = SimpleNamespace(should_stop=False)
        callback.on_train_batch_end(trainer, module, {"train/return": value}, None, 0)
        assert trainer.should_stop is stops


def test_the_readme_is_one_page() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 160


@pytest.mark.parametrize("index", ["docs/README.md", "docs/tutorials/README.md"])
def test_every_page_is_in_the_index_of_its_folder(index: str) -> None:
    listed = {path for path, _ in links(ROOT / index)}
    assert {page.name for page in (ROOT / index).parent.glob("*.md")} - {"README.md"} <= listed


SITE_LINKS = {
    "[a](metrics.md#x)": "[a](metrics.md#x)",
    "[`train.py`](../src/train.py)": "`src/train.py`",
    "[the loop](../src/train.py)": "the loop (`src/train.py`)",
    "![x](pictures/a.png)": "![x](pictures/a.png)",
    "```\n[a](../src/train.py)\n```": "```\n[a](../src/train.py)\n```",
    "[a](https://example.org)": "[a](https://example.org)",
}


@pytest.mark.parametrize("written", SITE_LINKS)
def test_links_out_of_docs_become_paths_on_the_site(written: str) -> None:
    hooks: dict[str, Any] = {}
    exec((ROOT / "docs/site/hooks.py").read_text(), hooks)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="settings.md"))
    assert hooks["on_page_markdown"](written, page=page) == SITE_LINKS[written]


def test_the_page_of_all_settings_has_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs/site"))
    from settings_page import settings_page

    rows = {cells.split(" | ")[0]: cells for cells in re.findall(r"^\| `(.*) \|$", settings_page(), re.MULTILINE)}
    names = {name.rstrip("`") for name in rows}
    wanted = {*known_keys(Config), *known_keys(EvaluateConfig), *keys_of_options("algorithm"), *OF_A_SWEEP}
    groups = {
        "env", "model", "optimizer", "algorithm", "trainer", "logger", "exploration", "condition", "env.kwargs",
        "model.kwargs",
    }  # fmt: skip
    assert sorted(wanted - names - groups) == []
    assert rows["clip`"] == (
        "clip` | `0.2` | number, > 0, < 1 | the probability ratio is clipped to [1 - clip, 1 + clip]"
    )
    assert "| `1.0` | number, > 0 |" in rows["algorithm.beta`"]
