"""Describe a setting in one place: the metadata of its field in a dataclass.

Everything else that is known about settings is derived from there: the checks, `--help`, the suggestions for a mistyped
key, and what a resumed run, a study and a report make of a setting that differs.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from ppolab.config.rules import KIND_WORDS, Range, is_a
from ppolab.errors import nearest

METADATA = "setting"


@dataclass(frozen=True)
class Effect:
    """What becomes of a run when a setting is changed.

    Attributes:
        resumable: a resumed run may have another value; otherwise it would be another run.
        changes_records: a resumed run with another value may record something else at the same steps.
        of_study: two sweeps with different values are different studies.
        of_method: a report tells methods apart by it.
        mentioned: a report says where runs that it takes for the same differ in it.
        makes_study: a sweep in which it is set is a study, not a grid.
        perturbed: population based training may go on with another value, from the same checkpoint.
    """

    resumable: bool = False
    changes_records: bool = False
    of_study: bool = True
    of_method: bool = True
    mentioned: bool = True
    makes_study: bool = False
    perturbed: bool = False


METHOD = Effect()
"""Another method: what most settings are."""
UPDATE = Effect(perturbed=True)
"""Another method, too; but nothing that a checkpoint holds depends on it."""
TASK = Effect(of_method=False)
"""Another task."""
SEED_OF_RUN = Effect(of_study=False, of_method=False)
"""Another run of the same method."""
LENGTH = Effect(resumable=True, changes_records=True)
"""The same run, longer or shorter; learning rates that fall do so over its whole length."""
EVALUATION = Effect(resumable=True, changes_records=True, of_method=False)
"""The same training, measured otherwise."""
COMPUTATION = Effect(resumable=True, changes_records=True, of_study=False, of_method=False)
"""The same mathematics, computed otherwise: the last digits may differ."""
EXECUTION = Effect(resumable=True, of_study=False, of_method=False)
"""The same numbers."""
LIMIT = Effect(resumable=True, of_method=False)
"""The same numbers, but other runs may be given up, so that a study would hold other failures."""
RECORDING = Effect(resumable=True, of_study=False, of_method=False, mentioned=False)
"""The same numbers, recorded elsewhere."""
STUDY = Effect(makes_study=True)
"""Of a sweep: only a study heeds it."""


@dataclass(frozen=True)
class Setting:
    """What is known about a setting besides its name, type and default.

    Attributes:
        words: one line for --help and for the comment beside its default in conf/.
        rule: the range of a number, or of every number in a list.
        choices: the values of a text that has only some.
        effect: what a change of it makes of a run; None: what its group's does.
    """

    words: str
    rule: Range | None = None
    choices: tuple[str, ...] = ()
    effect: Effect | None = None

    @property
    def comment(self) -> str:
        """What stands beside its default in conf/: the words, and the choices where these do not name each."""
        named = all(choice in self.words for choice in self.choices)
        return self.words if named else f"{self.words} ({', '.join(self.choices)})"


def setting(
    words: str,
    default: Any = MISSING,
    *,
    rule: Range | None = None,
    choices: tuple[str, ...] = (),
    effect: Effect | None = None,
) -> Any:
    """Return a dataclass field that carries its `Setting`. Without a default, a file in conf/ must hold one.

    The default of a group is its class.
    """
    metadata = {METADATA: Setting(words, rule, choices, effect)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        factory: Callable[[], Any] = lambda: copy.copy(default)  # noqa: E731
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Described:
    """A setting, or a group of settings, as its field in a dataclass describes it.

    Attributes:
        kind: its type as annotated, without None.
        effect: as in `Setting`, the group's filled in.
    """

    kind: Any
    optional: bool
    setting: Setting
    effect: Effect

    @property
    def is_group(self) -> bool:
        """Whether it holds other settings, which are described on their own."""
        return is_dataclass(self.kind)

    @property
    def item_kinds(self) -> tuple[type, ...] | None:
        """The types of a list's items, one for each where their number is fixed; None for what is no list."""
        return get_args(self.kind) if get_origin(self.kind) in (list, tuple) else None

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, in words, or None. null is left to the types of the schema."""
        if value is None:
            return None
        if self.setting.choices:
            return _choice_problem(value, self.setting.choices)
        if self.item_kinds is not None:
            return _list_problem(value, self.item_kinds, get_origin(self.kind) is tuple, self.setting.rule)
        if self.kind in KIND_WORDS and not is_a(value, self.kind):
            return f"must be {KIND_WORDS[self.kind]}"
        return number_problem(value, self.setting.rule)


def number_problem(value: object, rule: Range | None) -> str | None:
    """Return what is wrong with a number that must obey `rule`, in words, or None."""
    if rule is None:
        return None
    if not is_a(value, float):
        return f"must be {KIND_WORDS[float]}"
    assert isinstance(value, int | float)
    if rule.whole and isinstance(value, float) and value == value and abs(value) < 2**63:
        return f"must be {KIND_WORDS[int]}, such as {int(value)}"
    return None if rule.holds(value) else rule.words


def _choice_problem(value: object, choices: tuple[str, ...]) -> str | None:
    text = str(value).lower() if "true" in choices else str(value)
    return None if text in choices else f"must be one of {', '.join(choices)}{nearest(text, choices)}"


def _list_problem(value: object, kinds: tuple[type, ...], fixed: bool, rule: Range | None) -> str | None:
    one = KIND_WORDS[kinds[0]].removeprefix("a ")
    many = f"{one}s" if "number" in one else one
    expected = f"must be {NUMERALS.get(len(kinds), len(kinds))} {many}" if fixed else f"must be a list of {many}"
    if not isinstance(value, list | tuple) or (fixed and len(value) != len(kinds)):
        return expected
    if not all(is_a(item, kinds[0]) for item in value):
        return expected
    if rule is not None and not all(rule.holds(item) for item in value):
        return f"{expected}, and each of them {rule.words}"
    return None


NUMERALS = {2: "two", 3: "three"}


@cache
def settings_of(schema: type) -> dict[str, Described]:
    """Return every setting and group of a dataclass by its dotted name, in the order of its fields."""
    return dict(_described(schema, "", METHOD))


def _described(schema: type, prefix: str, inherited: Effect) -> list[tuple[str, Described]]:
    hints = get_type_hints(schema)
    found: list[tuple[str, Described]] = []
    for item in fields(schema):
        if METADATA not in item.metadata:  # Hydra's own, such as _target_
            continue
        kind, optional = _without_none(hints[item.name])
        told: Setting = item.metadata[METADATA]
        effect = told.effect or inherited
        found.append((prefix + item.name, Described(kind, optional, told, effect)))
        if is_dataclass(kind):
            assert isinstance(kind, type)
            found += _described(kind, f"{prefix}{item.name}.", effect)
    return found


def _without_none(hint: Any) -> tuple[Any, bool]:
    """(the type, whether None may stand in its place)."""
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (kind for kind in get_args(hint) if kind is not type(None))
        return kind, True
    return hint, False
