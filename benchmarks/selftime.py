"""Where the time of a program goes: named functions are measured from outside, so that the parts sum to the whole."""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any


class MissingName(Exception):
    """A function to be measured does not exist (any more)."""


class SelfTime:
    """Charges every moment to exactly one part: the innermost measured function under way, or `rest` outside of all.

    Args:
        rest: the part outside of all measured functions.
        nested: for some parts, which parts may begin inside them. Others then count as the outer part: what the policy
            computes during an evaluation is evaluation. A part that is not named here admits all.
        clock: seconds.
        spent: is told of every moment's part, begin and end.
    """

    def __init__(
        self,
        rest: str,
        nested: Mapping[str, Collection[str]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        spent: Callable[[str, float, float], None] | None = None,
    ) -> None:
        self._nested = nested or {}
        self._clock = clock
        self._spent = spent
        self._stack = [rest]
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = clock()
        self._thread = threading.get_ident()
        self.calls: Counter[str] = Counter()

    def enter(self, part: str) -> None:
        """A measured function of `part` begins."""
        self._charge()
        outer = self._stack[-1]
        admitted = self._nested.get(outer)
        inner = outer if admitted is not None and part not in admitted else part
        self.calls[inner] += inner != outer
        self._stack.append(inner)

    def leave(self) -> None:
        """The measured function that began last has ended."""
        self._charge()
        self._stack.pop()

    def seconds(self) -> dict[str, float]:
        """Of every part, up to now."""
        self._charge()
        return dict(self._seconds)

    def measured(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """`function`, charged to `part` when the thread that made this object calls it."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*args, **kwargs)
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return wrapper

    def install(self, parts: Iterable[tuple[str, str]]) -> None:
        """Measure every function in `parts`, pairs of dotted name and part, from now on.

        Raises:
            MissingName: there is no function of such a name.
        """
        for name, part in parts:
            owner, attribute = owner_of(name)
            setattr(owner, attribute, self.measured(getattr(owner, attribute), part))

    def _charge(self) -> None:
        now = self._clock()
        self._seconds[self._stack[-1]] += now - self._since
        if self._spent is not None:
            self._spent(self._stack[-1], self._since, now)
        self._since = now


def owner_of(name: str) -> tuple[Any, str]:
    """The module or class in which a dotted name is looked up, and the last part of the name.

    Raises:
        MissingName: there is no such module, class or function.
    """
    names = name.split(".")
    for count in range(len(names) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(names[:count]))
        except ModuleNotFoundError as error:
            if error.name and not name.startswith(error.name):
                raise  # the module is there, but something that it imports is not
            continue
        for attribute in names[count:-1]:
            owner = getattr(owner, attribute, None)
        if _has_function(owner, names[-1]):
            return owner, names[-1]
        break
    raise MissingName(f"{name}: there is no such function; correct the table of parts")


def _has_function(owner: Any, name: str) -> bool:
    """Of its own or inherited; a class can be called, but that is not a `__call__` of its objects."""
    if isinstance(owner, type):
        return any(callable(vars(base).get(name)) for base in owner.__mro__)
    return callable(getattr(owner, name, None))


def between(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """The seconds of every part between two answers of `SelfTime.seconds`."""
    return {part: seconds - first.get(part, 0.0) for part, seconds in last.items()}
