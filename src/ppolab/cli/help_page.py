"""Write what --help prints: every group with its options, and every setting with its value, words and rule."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from ppolab.cli.hydra_run import hydra_application, parse_flags
from ppolab.config.algorithms import ABOUT, metrics_of, ranges_of
from ppolab.config.files import comments_in, option_file
from ppolab.config.metrics import METRIC_WORDS
from ppolab.config.rules import KIND_WORDS, Range
from ppolab.config.schema import Config, OptimizerSettings, flattened
from ppolab.config.setting import Described, settings_of
from ppolab.config.sweep_schema import SchedulerSettings, SweepSettings
from ppolab.errors import spelled
from ppolab.records.wording import as_typed

WIDTH = 120
INDENT = 36
"""Where the words begin."""
OVERVIEW_INDENT = 12


@dataclass(frozen=True)
class Entry:
    """Hold a setting, or a metric.

    Attributes:
        value: as it is typed; None of a metric. kind: type and rule, or choices; may be empty.
    """

    name: str
    value: str | None
    words: str
    kind: str = ""

    @property
    def lines(self) -> list[str]:
        """The entry as it is printed."""
        left = self.name if self.value is None else f"{self.name}={self.value}"
        return two_columns(left, f"{self.words} ({self.kind})".strip() if self.kind else self.words)


@dataclass(frozen=True)
class Section:
    """Hold settings that belong together.

    Attributes:
        name: what `--help NAME` prints it for; empty where a command has no other section.
        entries: by setting or metric.
    """

    name: str
    heading: str
    entries: Mapping[str, Entry]

    @property
    def lines(self) -> Iterator[str]:
        """The section as it is printed, after an empty line where it has a heading."""
        if self.heading:
            yield from ("", self.heading)
        for entry in self.entries.values():
            yield from entry.lines


@dataclass(frozen=True)
class Composed:
    """Hold what the pages of a command are made of.

    Attributes:
        template: the page around groups and settings, from conf/hydra/help/.
        options: of each group, by its name.
        chosen: the option of each group.
    """

    template: string.Template
    options: Mapping[str, list[str]]
    chosen: Mapping[str, str]
    sections: list[Section]


def help_page(config_name: str, overrides: list[str]) -> str:
    """Return the page for conf/CONFIG_NAME.yaml, with every setting at the value that `overrides` make."""
    found = composed(config_name, overrides)
    lines = [line for section in found.sections for line in section.lines]
    return _filled(found, [*lines, ""])


def help_overview() -> str:
    """Return the page for conf/config.yaml that names every setting, and tells how to ask for more."""
    found = composed("config", [])
    lines = []
    for section in found.sections:
        names = ", ".join(name.removeprefix(f"{section.name}.") for name in section.entries)
        lines += two_columns(section.name, names, indent=OVERVIEW_INDENT)
    hints = (
        "--help PART tells value, meaning, type and choices. PART is a name on the left (--help model), a setting",
        "(--help optimizer.lr), a group (--help search) or one of its options (--help algorithm=trpo). --help all",
        "prints everything.",
        "",
    )
    return _filled(found, [*lines, "", *hints])


def _filled(found: Composed, lines: Iterable[str]) -> str:
    groups = "".join(f"{group}: {', '.join(options)}\n" for group, options in found.options.items())
    return as_typed(found.template.substitute(APP_CONFIG_GROUPS=groups, CONFIG="\n".join(lines)))


def composed(config_name: str, overrides: list[str]) -> Composed:
    """Compose conf/CONFIG_NAME.yaml, and describe what it holds.

    It takes half the time of Hydra's own --help, which lists Hydra's groups, too, and copies all schemas for each.
    """
    with hydra_application(config_name, parse_flags([])) as hydra:
        loader = hydra.config_loader
        node = loader.load_configuration(config_name, overrides, RunMode.RUN)
        template = string.Template(node.hydra.help.template)
        assert isinstance(loader, ConfigLoaderImpl)
        repository = loader.repository  # the loader's own methods of these names copy all schemas, every time
        options = {group: repository.get_group_options(group, ObjectType.CONFIG) for group in _groups(repository)}
    chosen = {group: str(option) for group, option in node.hydra.runtime.choices.items()}
    schema = _schema_of(config_name)
    with open_dict(node):
        del node.hydra
    values = OmegaConf.to_container(node)
    assert isinstance(values, dict)
    sections = list(_sections(schema, {str(key): value for key, value in values.items()}, chosen))
    return Composed(template, options, chosen, sections)


def _groups(repository: IConfigRepository, parent: str = "") -> Iterator[str]:
    """The configuration groups below `parent`, at any depth; of Hydra's own none."""
    for name in repository.get_group_options(parent, ObjectType.GROUP):
        if parent or name != "hydra":
            yield f"{parent}{name}"
            yield from _groups(repository, f"{parent}{name}/")


def _schema_of(config_name: str) -> type:
    """The dataclass that conf/CONFIG_NAME.yaml fills."""
    name = "schema" if config_name == "config" else f"{config_name}_schema"
    found = OmegaConf.get_type(ConfigStore.instance().load(f"{name}.yaml").node)
    assert found is not None
    return found


# --- settings ----------------------------------------------------------------------------------------------------


def _sections(schema: type, values: Mapping[str, Any], chosen: Mapping[str, str]) -> Iterator[Section]:
    """First the settings of no group, then group by group.

    Args:
        values: what was composed. chosen: the option of each group.
    """
    described = settings_of(schema)
    groups = [key for key, found in described.items() if found.is_group or key in chosen]
    alone = {key: found for key, found in described.items() if "." not in key and key not in groups}
    yield Section(
        "run" if schema is Config else "",
        "",
        {key: Entry(key, _typed(values[key]), found.setting.words, _kind(found)) for key, found in alone.items()},
    )
    for group in groups:
        option, words = chosen.get(group), described[group].setting.words
        heading = f"{group}={option}: {words}" if option else words
        yield Section(group, heading, _group_entries(group, option or "", values[group], described))
    if schema is Config:
        yield Section("sweep", "Of a sweep, with -m:", _with_defaults(SweepSettings))
        of_pbt = _with_defaults(SchedulerSettings, "scheduler.")
        yield Section("scheduler", "Of a sweep with scheduler=pbt:", of_pbt)
        metrics = _metric_entries(str(values["algorithm"]["name"]))
        yield Section("metrics", "== Metrics: for objective=, and for metric= of a report ==", metrics)


def _with_defaults(schema: type, prefix: str = "") -> dict[str, Entry]:
    """The fields of a dataclass at their defaults; `prefix`: how their names begin."""
    defaults = schema()
    return {
        f"{prefix}{key}": Entry(f"{prefix}{key}", _typed(getattr(defaults, key)), found.setting.words, _kind(found))
        for key, found in settings_of(schema).items()
        if key != "name"  # which the group's option sets
    }


def _group_entries(
    group: str, option: str, values: Mapping[str, Any], described: Mapping[str, Described]
) -> dict[str, Entry]:
    """The settings of a group: what the schema says of each, else the option's own file."""
    if group == "optimizer":
        described = {f"optimizer.{key}": found for key, found in settings_of(OptimizerSettings).items()}
    comments = comments_in(option_file(group, option)) if group in ("optimizer", "algorithm") else {}
    ranges = ranges_of(str(values["name"])) if group == "algorithm" else {}
    own = {name: value for name, value in values.items() if group != "algorithm" or name not in ABOUT}
    entries = {}
    for name, value in flattened(own).items():
        found = described.get(f"{group}.{name}")
        kind = _kind(found) if found else _kind_of_value(value, ranges.get(name))
        words = comments.get(name) or (found.setting.words if found else "")
        entries[f"{group}.{name}"] = Entry(f"{group}.{name}", _typed(value), words, kind)
    return entries


def _metric_entries(algorithm: str) -> dict[str, Entry]:
    comments = comments_in(option_file("algorithm", algorithm))
    words = METRIC_WORDS | {name: comments.get(name, "") for name in metrics_of(algorithm)}
    return {name: Entry(name, None, told) for name, told in words.items()}


def two_columns(left: str, right: str, indent: int = INDENT) -> list[str]:
    """Two columns; what is too long for the first one has a line of its own."""
    lines = textwrap.wrap(right, WIDTH - indent, break_on_hyphens=False) or [""]
    first = [f"{left:<{indent}}{lines[0]}".rstrip()] if len(left) < indent else [left, f"{'':<{indent}}{lines[0]}"]
    return [*first, *(f"{'':<{indent}}{line}" for line in lines[1:])]


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(_typed(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_typed(item)}' for key, item in value.items())}}}"
    return spelled(value)


def _kind(found: Described) -> str:
    """The type of a setting and what its values must satisfy, or its choices."""
    if found.setting.choices:
        return ", ".join(found.setting.choices)
    items = found.item_kinds
    if items is None:
        words = _kind_words(found.kind)
    else:
        count = f"{len(items)} " if get_origin(found.kind) is tuple else ""
        words = f"list of {count}{_kind_words(items[0])}s".replace("texts", "names").removesuffix(" of s")
    return _joined(words, found.setting.rule, optional=found.optional)


def _kind_of_value(value: Any, rule: Range | None) -> str:
    words = "whole number" if rule and rule.whole else "number" if rule else _kind_words(type(value))
    return _joined(words, rule, optional=value is None)


def _kind_words(kind: Any) -> str:
    return KIND_WORDS.get(kind, "").removeprefix("a ") if not get_args(kind) else ""


def _joined(words: str, rule: Range | None = None, *, optional: bool = False) -> str:
    bounds = rule.text.removeprefix("whole, ") if rule else ""
    parts: Iterable[str] = (words, bounds, "or null" if optional and words else "")
    return ", ".join(part for part in parts if part)
