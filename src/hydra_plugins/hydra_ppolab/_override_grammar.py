"""Read Hydra's override grammar: listed values for a grid, dimensions of a search space for a study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from ppolab.config.quoting import quoted
from ppolab.errors import ConfigError
from ppolab.study.search_space import Choice, Dimension, Interval

MOST_LISTED = 10
"""Values of a range that are listed on the terminal."""


def split(overrides: Iterable[Override]) -> tuple[dict[str, str], dict[str, Override]]:
    """Return (fixed values, overrides with several values), by key; of two with the same key, the later one counts."""
    fixed: dict[str, str] = {}
    searched: dict[str, Override] = {}
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        searched.pop(key, None)
        if override.is_sweep_override():
            searched[key] = override
        else:
            fixed[key] = override.get_value_element_as_str()
    return fixed, searched


def is_listed(override: Override) -> bool:
    """Return whether a sweep override lists its values, as a grid needs them; an interval has none to list."""
    return not isinstance(override.value(), IntervalSweep)


def listed(override: Override) -> tuple[str, ...]:
    """Return the values of a sweep override as Hydra has them, each written as after `key=`."""
    return tuple(override.sweep_string_iterator())


def range_in_words(override: Override) -> str | None:
    """Return a line with the values of a range of fractions, None for any other override.

    Where rounding plays a part, the last value and the digits of the others are not what one expects.
    """
    if not isinstance(override.value(), RangeSweep):
        return None
    values = listed(override)
    if all(re.fullmatch(r"-?\d+", value) for value in values):
        return None
    shown = values if len(values) <= MOST_LISTED else (*values[:3], "...", values[-1])
    return f"{override.input_line} takes {len(values)} values: {', '.join(shown)}"


def dimension(override: Override) -> Dimension:
    """Return the dimension that one sweep override searches.

    Raises:
        ConfigError: an interval where only choices make sense.
    """
    value = override.value()
    if isinstance(value, IntervalSweep):
        return _interval(override, value)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and not value.shuffle:
        return _range(override, value)
    return Choice(listed(override))


def _interval(override: Override, sweep: IntervalSweep) -> Interval:
    if "/" in override.key_or_group or "@" in override.key_or_group:
        raise ConfigError(f"{override.input_line}: a group has options, not an interval; list them with commas")
    assert sweep.start is not None and sweep.end is not None
    integer = isinstance(sweep.start, int) and isinstance(sweep.end, int)
    return Interval(float(sweep.start), float(sweep.end), log="log" in sweep.tags, integer=integer)


def _range(override: Override, sweep: RangeSweep) -> Interval | Choice:
    values = sorted(sweep.range())
    if len(values) < 2 or "log" in sweep.tags:
        return Choice(listed(override))
    integer = all(isinstance(value, int) for value in values)
    return Interval(float(values[0]), float(values[-1]), integer=integer, step=float(values[1] - values[0]))


def written(value: object) -> str:
    """Return any setting's value in Hydra's grammar, quoted only where it must be."""
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
