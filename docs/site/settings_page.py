"""Write the site's page of all settings from the schema and the files in conf/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from hydra.core.config_store import ConfigStore

from ppolab.cli.help_page import Composed, Entry, composed
from ppolab.config.algorithms import algorithm_names
from ppolab.config.files import options_of
from ppolab.config.schema import register_schemas
from ppolab.reports.settings import ReportConfig

INTRODUCTION = """# Every setting

Made from the source, as `--help` is. [Settings](../settings.md) explains more. A value is the default.
"""
OF_OPTIONS = ("optimizer", "algorithm")
"""Groups whose options have settings of their own."""
COMMANDS = {"evaluate": "ppolab-evaluate", "export": "ppolab-export", "report": "ppolab-report"}


def settings_page() -> str:
    """Return the page as Markdown: the settings of a training by group, of a sweep, and of the other commands."""
    register_schemas()
    ConfigStore.instance().store(name="report_schema", node=ReportConfig)
    return "\n".join([INTRODUCTION, *_training(), *_other_commands()])


def _training() -> Iterator[str]:
    found = composed("config", [])
    of_options = list(_with_each_option())
    for section in found.sections:
        if section.name == "metrics":
            continue
        yield from ("", f"## {section.heading.partition(':')[0].partition('=')[0] or 'The run'}")
        if section.name in found.options:
            yield from ("", "Options: " + ", ".join(f"`{name}`" for name in found.options[section.name]))
        sources = (found, *of_options) if section.name in OF_OPTIONS else (found,)
        yield from _table(_entries(section.name, sources))


def _with_each_option() -> Iterator[Composed]:
    """Compose every algorithm and every optimizer once, two at a time since composing is slow."""
    optimizers = sorted(set(options_of("optimizer")) - {"own"})
    for pair in zip_longest(sorted(algorithm_names()), optimizers):
        chosen = [f"{group}={name}" for group, name in zip(("algorithm", "optimizer"), pair, strict=True) if name]
        yield composed("config", chosen)


def _entries(section: str, sources: Iterable[Composed]) -> dict[str, Entry]:
    """Return the entries of a section in all that was composed; the first value counts."""
    merged: dict[str, Entry] = {}
    for source in sources:
        for part in source.sections:
            if part.name == section:
                merged = {**part.entries, **merged}
    return merged


def _other_commands() -> Iterator[str]:
    for config_name, command in COMMANDS.items():
        yield from ("", f"## {command}")
        entries = [entry for section in composed(config_name, []).sections for entry in section.entries.values()]
        yield from _table({entry.name: entry for entry in entries})


def _table(entries: dict[str, Entry]) -> Iterable[str]:
    yield from ("", "| setting | value | type | meaning |", "| --- | --- | --- | --- |")
    for name, entry in sorted(entries.items()):
        cells = (f"`{name}`", f"`{entry.value}`", entry.kind, entry.words)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
