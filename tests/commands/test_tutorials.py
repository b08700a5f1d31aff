"""Every tutorial works as it stands: its files, its commands, and the output that it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tutorials import Command, File, missing_line, steps_of

from commands import ROOT, clean_environment

PAGES = sorted(path for path in (ROOT / "docs/tutorials").glob("*.md") if path.name != "README.md")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell with the commands of this environment, the sources of this checkout, and one thread."""
    scripts = Path(sys.executable).parent
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    return clean_environment() | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_works_as_it_stands(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    steps = steps_of(page)
    assert any(isinstance(step, Command) and step.shown for step in steps), "a tutorial shows what is printed"
    for step in steps:
        if isinstance(step, File):
            (tmp_path / step.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / step.name).write_text(step.text)
        else:
            type_in(step, tmp_path, environment)


def type_in(command: Command, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", command.typed], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=240, check=False,
    )  # fmt: skip
    missing = missing_line(command.shown, done.stdout)
    assert missing is None, f"$ {command.typed}\ndid not print: {missing}\nbut:\n{done.stdout}"
    assert done.returncode == 0, f"$ {command.typed}\n{done.stdout}"


def test_what_is_shown_must_be_printed_in_this_order() -> None:
    assert missing_line(("a … c", "d"), "a b c\n  x\nd") is None
    assert missing_line(("d", "a … c"), "a b c\nd") == "a … c"
    assert missing_line(("a",), "ab") == "a"
