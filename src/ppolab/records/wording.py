"""Word what a run tells its user: returns, and the command to type next."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("train", "evaluate", "export", "report")
PLAIN = re.compile(r"[\w/.+-]+", re.ASCII)
"""The values that Hydra's grammar takes without quotes."""
QUOTE_OR_END = re.compile(r'(\\*)("|$)')
"""Where backslashes mean something between Hydra's double quotes."""
CLEAR_LINE = "\r\x1b[K"
"""What takes back the line that a terminal's cursor is on."""


def shown(value: float) -> str:
    """Return a number with one decimal, or with three significant digits where that would hide most of it."""
    if value != 0 and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value + 0.0:,.1f}"  # which makes 0.0 of -0.0


def shown_return(mean: float, deviation: float) -> str:
    """Return "mean ± deviation"; a deviation that is only rounding error is 0."""
    return f"{shown(mean)} ± {shown(deviation if deviation > 1e-9 * abs(mean) else 0.0)}"


def next_command(program: str, key: str, value: object) -> str:
    """Return the command `PROGRAM key=value`, as it can be typed into a shell where this one was typed.

    Args:
        program: `train`, `evaluate`, `report` or `export`. It takes the form of the running command:
            `ppolab-evaluate` after `ppolab-train`, `python src/evaluate.py` after `python src/train.py`.
    """
    text = str(value)
    if not PLAIN.fullmatch(text):
        text = '"' + QUOTE_OR_END.sub(_escaped, text) + '"'
    return f"{_form_of(program)} {shlex.quote(f'{key}={text}')}"


def command_with(program: str, arguments: Iterable[str]) -> str:
    """Return the command `PROGRAM ARGUMENTS`, as it can be typed into a shell where this one was typed."""
    return f"{_form_of(program)} {shlex.join(arguments)}"


def same_command(program: str) -> str:
    """Return the command that is running, as it can be typed again."""
    return command_with(program, sys.argv[1:])


def as_typed(text: str) -> str:
    """Return `text` with every `python src/train.py` in the form of the running command."""
    for program in PROGRAMS:
        text = text.replace(f"python src/{program}.py", _form_of(program))
    return text


_TOLD = re.compile(r"^ppolab\.errors\.\w+: (.+)$", re.MULTILINE)


def problem_in(trace: str) -> str:
    """Return the line of a traceback that tells what went wrong: ours, which notes may follow, else the last one."""
    told = _TOLD.findall(trace)
    return told[-1] if told else trace.strip().splitlines()[-1]


def _escaped(match: re.Match[str]) -> str:
    backslashes, quote = match.groups()
    return backslashes * 2 + (f"\\{quote}" if quote else "")


def _form_of(program: str) -> str:
    """Return `python PATH/train.py` where that file of a clone is what runs, else `ppolab-train`.

    A script of the user's own may be called train.py, too; it has no ppolab beside it.
    """
    started = Path(sys.argv[0])
    if started.name in (f"{name}.py" for name in PROGRAMS) and started.with_name("ppolab").is_dir():
        return f"python {shlex.quote(str(started.with_name(f'{program}.py')))}"
    return f"ppolab-{program}"
