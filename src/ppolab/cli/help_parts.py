"""Write what `--help PART` prints: a group, one of its options, some settings, or one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ppolab.cli.foreign_names import OUR_NAMES
from ppolab.cli.help_page import Composed, composed, help_overview, help_page, two_columns
from ppolab.config.algorithms import about, algorithms_with
from ppolab.config.files import option_file, words_of
from ppolab.errors import ConfigError, nearest
from ppolab.records.wording import as_typed


def help_for(config_name: str, arguments: Sequence[str], overrides: list[str]) -> str:
    """Return what `--help ARGUMENTS` prints.

    Args:
        arguments: as typed. Each names a part; `key=value` also sets a value. overrides: those with a value, as Hydra
            wants them.

    Raises:
        ConfigError: there is no such part.
    """
    if not arguments and config_name == "config":
        return help_overview()
    if not arguments or "all" in arguments:
        return help_page(config_name, overrides)
    found = composed(config_name, overrides)
    if config_name != "config":  # the groups are those of a training
        found = replace(found, options={})
    parts = [_lines_of(argument, found) for argument in arguments]
    return as_typed("\n\n".join("\n".join(lines).strip("\n") for lines in parts))


def _lines_of(argument: str, found: Composed) -> list[str]:
    name, equals, option = argument.lstrip("+").partition("=")
    entries = {key: entry for section in found.sections for key, entry in section.entries.items()}
    sections = {section.name: section for section in found.sections}
    if name in found.options or name in sections:
        lines = [] if equals else list(_options(name, found.options.get(name, ())))
        told = list(sections[name].lines) if name in sections else []
        return [*lines, *told, *(_of_option(name, option) if equals else ()), *_facts(name, found.chosen)]
    ours = OUR_NAMES.get(name, name)
    namesakes = [key for key in entries if key == ours or key.endswith(f".{ours}")]
    if not namesakes:
        raise ConfigError(f"--help {argument}: {_unknown(name, [*entries, *sections, *found.options])}")
    return [line for key in namesakes for line in entries[key].lines]


def _options(group: str, options: Sequence[str]) -> Iterator[str]:
    """Yield a line for each option of a group, with the words in its file."""
    if options:
        yield f"{group}=..."
        for option in options:
            yield from two_columns(f"  {option}", _words(group, option))


def _of_option(group: str, option: str) -> Iterator[str]:
    words = _words(group, option)
    if words:
        yield from ("", words)


def _facts(group: str, chosen: Mapping[str, str]) -> Iterator[str]:
    """Yield what an algorithm does not read, and what it needs."""
    facts = about(chosen.get(group, "")) if group == "algorithm" else {}
    if facts.get("ignores"):
        yield from two_columns("does not read", ", ".join(facts["ignores"]))
    if facts.get("needs"):
        yield from two_columns("needs", ", ".join(facts["needs"]))


def _words(group: str, option: str) -> str:
    files = (option_file(group, option, folder) for folder in ("conf", "sweeps"))
    return next((words_of(file) for file in files if file.is_file()), "")


def _unknown(name: str, known: Sequence[str]) -> str:
    owners = algorithms_with(name.removeprefix("algorithm."))
    if owners:
        return f"is a setting of algorithm={','.join(owners)}; write --help algorithm={owners[0]}"
    return f"no such setting or group{nearest(name, known)}; --help names all"
