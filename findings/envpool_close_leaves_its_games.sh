#!/usr/bin/env bash
# close() of an EnvPool pool of ViZDoom ends nothing: the games' processes stay, and the pool can still be stepped.
#
# Versions: envpool 1.2.5, gymnasium 1.4.0, numpy 2.4.6, Python 3.11, Linux x86-64.
# Seen: 2026-11-29.
#
# Expected: after close() of a vector environment its simulators are gone, as with Gymnasium's own vector environments,
# and a later reset raises an error.
#
# Behaviour: ViZDoom runs one process per environment. close() returns None and all of them go on running. reset() still
# works. Only when the last reference to the pool is gone do the processes end.
#
# Why it matters: a program that makes pools again and again and keeps the old ones in a list, a closure or a traceback
# collects processes. A program that leaves by os._exit leaves them to the system, where they ignore SIGTERM.
#
# Output that was seen (exit status 0):
#
#     after reset: 2 processes
#     close() returned None
#     after close: 2 processes
#     reset after close: works
#     after the last reference is gone: 0 processes
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 gymnasium==1.4.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work" # ViZDoom writes _vizdoom.ini where it is started
"$work/venv/bin/python" - <<'PYTHON'
import gc
import os
import sys
import time
from pathlib import Path

import envpool

changes = []


def children():
    """Count the processes whose parent is this one."""
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        found += parent == str(os.getpid())
    return found


def expect(text, seen, expected):
    print(f"{text} {seen}" if text.endswith("returned") else f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


pool = envpool.make_gymnasium("Basic-v1", num_envs=2)
pool.reset()
expect("after reset", f"{children()} processes", "2 processes")
expect("close() returned", pool.close(), None)
time.sleep(2)
expect("after close", f"{children()} processes", "2 processes")
try:
    pool.reset()
    again = "works"
except Exception as error:
    again = type(error).__name__
expect("reset after close", again, "works")
del pool
gc.collect()
time.sleep(2)
expect("after the last reference is gone", f"{children()} processes", "0 processes")
for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
