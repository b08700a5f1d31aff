"""From Hydra's override grammar to a search space."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from ppolab.errors import ConfigError
from ppolab.study.space import Choice, Dimension, Interval


def split(overrides: Iterable[Override]) -> tuple[dict[str, str], dict[str, Dimension]]:
    """(what is fixed, what is searched), by key; of two that set the same key, the later one counts."""
    fixed: dict[str, str] = {}
    searched: dict[str, Dimension] = {}
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        searched.pop(key, None)
        if override.is_sweep_override():
            searched[key] = dimension(override)
        else:
            fixed[key] = override.get_value_element_as_str()
    return fixed, searched


def dimension(override: Override) -> Dimension:
    """What one sweep override searches.

    Raises:
        ConfigError: an interval where only choices make sense.
    """
    value = override.value()
    if isinstance(value, IntervalSweep):
        return _interval(override, value)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and not value.shuffle:
        return _range(override, value)
    return Choice(tuple(override.sweep_string_iterator()))


def _interval(override: Override, sweep: IntervalSweep) -> Interval:
    if "/" in override.key_or_group or "@" in override.key_or_group:
        raise ConfigError(f"{override.input_line}: a group has options, not an interval; list them with commas")
    assert sweep.start is not None and sweep.end is not None
    integer = isinstance(sweep.start, int) and isinstance(sweep.end, int)
    return Interval(float(sweep.start), float(sweep.end), log="log" in sweep.tags, integer=integer)


def _range(override: Override, sweep: RangeSweep) -> Interval | Choice:
    values = sorted(sweep.range())
    if len(values) < 2 or "log" in sweep.tags:
        return Choice(tuple(override.sweep_string_iterator()))
    integer = all(isinstance(value, int) for value in values)
    return Interval(float(values[0]), float(values[-1]), integer=integer, step=float(values[1] - values[0]))


def quoted(text: str) -> str:
    """As a value in Hydra's grammar, whatever it holds."""
    # a backslash is itself there, unless backslashes lead up to a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def written(value: object) -> str:
    """Any setting's value in Hydra's grammar, quoted only where it must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w./-]+", value) else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(written(item) for item in value) + "]"
    return repr(value)
