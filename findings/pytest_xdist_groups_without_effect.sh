#!/usr/bin/env bash
# With pytest 9.2.0, tests of one xdist_group run on several workers of pytest-xdist 3.8.0 at the same time.
#
# Versions: pytest 9.2.0 (and 8.4.2 for comparison), pytest-xdist 3.8.0, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: --dist loadgroup gives all tests of one group to one worker, which runs them one after another.
#
# Behaviour: with pytest 9.2.0 the mark has no effect, and nothing says so: the four tests of the group are spread over
# both workers. The same file and command with pytest 8.4.2 use one worker.
#
# Why it matters: groups keep tests apart that share a port, a server or a cache. Such tests now disturb one another at times only,
# after an upgrade of pytest alone.
#
# Output that was seen (exit status 0):
#
#     pytest 8.4.2: workers that ran the group: 1
#     pytest 9.2.0: workers that ran the group: 2
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/test_group.py" <<'PYTHON'
import os
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("together")


@pytest.mark.parametrize("index", range(4))
def test_one(index, worker_id):
    time.sleep(0.5)
    Path(os.environ["SEEN"], worker_id).touch()
PYTHON

answer=""
for version in 8.4.2 9.2.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --quiet "pytest==$version" pytest-xdist==3.8.0 || { echo "not tried: the packages could not be installed"; exit 2; }
  mkdir "$work/seen-$version"
  (cd "$work" && SEEN="$work/seen-$version" "$work/$version/bin/python" -m pytest -q -n 2 --dist loadgroup test_group.py > "$work/log" 2>&1) || { cat "$work/log"; exit 1; }
  workers=$(find "$work/seen-$version" -type f | wc -l)
  echo "pytest $version: workers that ran the group: $workers"
  answer="$answer $workers"
done
[ "$answer" = " 1 2" ] || exit 1
