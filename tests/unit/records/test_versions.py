"""What a run was computed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppolab.records.versions import differing_versions, machine, package_versions, read_versions, write_versions


def test_versions_are_those_of_the_installed_packages() -> None:
    found = package_versions()
    assert found["numpy"] == np.__version__
    assert {"ppolab", "python", "torch", "gymnasium"} <= set(found)
    assert set(machine()) == {"system", "machine", "processor"}


def test_the_versions_of_the_beginning_stay(tmp_path: Path) -> None:
    file = tmp_path / "versions.json"
    write_versions(file, {"torch": "1"})
    write_versions(file, {"torch": "2"})
    assert read_versions(file) == {"torch": "1"}


def test_a_missing_or_damaged_file_holds_no_versions(tmp_path: Path) -> None:
    file = tmp_path / "versions.json"
    assert read_versions(file) is None
    file.write_text("{")
    assert read_versions(file) is None


def test_differences_are_named_one_by_one() -> None:
    before, now = {"torch": "1", "numpy": "2", "envpool": "3"}, {"torch": "1", "numpy": "2.1", "jax": "4"}
    assert differing_versions(before, now) == ["numpy 2 -> 2.1", "envpool 3 -> none", "jax none -> 4"]
