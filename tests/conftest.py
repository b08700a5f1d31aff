"""One thread for everybody, the source tree importable, and the rules of the four tiers of tests."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))  # children

import pytorch_lightning  # noqa: E402, F401  # here, since its import takes longer than a unit test may
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("ppolab", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("ppolab")

TIERS = ("unit", "smoke", "commands", "system")
"""The folders of `tests/` that hold tests, and the markers that the tests in them get."""

UNIT_SECONDS = 15.0
"""Seconds of the main thread on a processor that a unit test may take; a busy machine changes the wall clock more.

Write them to take one second at most. The limit is far above: it finds a test of another tier, and not a slow
processor, on which a test has taken four times as long.
"""


def tier_of(path: Path) -> str:
    """Return the tier of a test file.

    Raises:
        pytest.UsageError: the file lies in none.
    """
    place = path.relative_to(ROOT / "tests").parts[0]
    if place not in TIERS:
        raise pytest.UsageError(f"{path}: lies in no tier of tests; move it below one of {', '.join(TIERS)}")
    return place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier."""
    for item in items:
        item.add_marker(tier_of(item.path))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a unit test that takes too long; slow ones that are marked as such may."""
    started = time.thread_time()
    outcome = yield
    taken = time.thread_time() - started
    limited = tier_of(item.path) == "unit" and item.get_closest_marker("slow") is None
    if limited and taken > UNIT_SECONDS and outcome.excinfo is None:
        outcome.force_exception(
            AssertionError(
                f"took {taken:.1f} s of processor time, and a unit test may take {UNIT_SECONDS:g}: make it smaller, "
                "or move it to tests/commands or tests/system"
            )
        )
