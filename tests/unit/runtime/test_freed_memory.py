"""What is taken out of a process's memory is there again when it is used."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from ppolab.runtime.memory import CODE, forget_code

MAPPINGS = """\
7f0000000000-7f0000001000 r-xp 00001000 fe:00 7 /lib/code.so
Size: 4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f0000002000-7f0000003000 r-xp 00001000 fe:00 7 /lib/patched.so
Size: 4 kB
Anonymous:             4 kB
VmFlags: rd ex mr mw me
7f0000004000-7f0000005000 r--p 00001000 fe:00 7 /lib/constants.so
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
"""


def test_only_code_of_files_that_nobody_has_changed_is_found() -> None:
    assert [found.groups() for found in CODE.finditer(MAPPINGS)] == [("7f0000000000", "7f0000001000")]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's list of mappings")
def test_code_runs_on_after_it_has_been_taken_out() -> None:
    forget_code()
    assert math.cos(0.0) == 1.0
    assert sys.getsizeof([]) > 0
