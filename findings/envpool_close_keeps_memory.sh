#!/usr/bin/env bash
# EnvPool's close() of a pool frees none of its memory; the end of the pool's last reference does.
#
# Versions: envpool 1.2.5, numpy 2.4.6, Python 3.11, glibc.
# Seen: 2026-11-29.
#
# Expected: after `close()`, as of a Gymnasium environment, the simulators are gone: what is left is a small object.
#
# Behaviour: the memory of a pool of 256 Hopper-v5 stays the same after close(). It falls once the Python object is deleted and
# the C library is asked to return what is free (malloc_trim). A program that keeps the closed pool in an attribute, as
# wrappers do, and makes another one, holds the memory of both.
#
# Why it matters: evaluating in pools that are made and closed again and again, or making a pool anew with other arguments.
#
# Output that was seen (exit status 0):
#
#     a pool of 256 takes 176 MB; after close() 176 MB; deleted 1 MB
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import ctypes
import gc
import sys

import envpool


def megabytes():
    """Memory of this process that is no file's, after free memory was returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


first = envpool.make_gymnasium("Hopper-v5", num_envs=2, num_threads=1)  # what the first pool loads stays for good
first.reset()
first.close()
del first
before = megabytes()
pool = envpool.make_gymnasium("Hopper-v5", num_envs=256, num_threads=1)
pool.reset()
made = megabytes() - before
pool.close()
closed = megabytes() - before
del pool
deleted = megabytes() - before
print(f"a pool of 256 takes {made:.0f} MB; after close() {closed:.0f} MB; deleted {deleted:.0f} MB")
as_described = made > 20 and closed > 0.9 * made and deleted < 0.2 * made
sys.exit(0 if as_described else 1)
PYTHON
