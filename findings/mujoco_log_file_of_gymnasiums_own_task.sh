#!/usr/bin/env bash
# Making one of Gymnasium's own tasks with MuJoCo 4 drops a file MUJOCO_LOG.TXT into the current folder, at every start.
#
# Versions: gymnasium 1.4.0, mujoco 4.0.0, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: gymnasium.make("HalfCheetah-v5") with two current releases leaves no file, and says nothing: Gymnasium's model
# files are Gymnasium's business, not the user's.
#
# Behaviour: the model file of HalfCheetah-v5 uses an attribute that MuJoCo 4 calls deprecated. MuJoCo's handler of warnings
# prints a line and appends to MUJOCO_LOG.TXT in the current folder, with the time. So every start of a program adds to a
# file that nobody asked for. Hopper-v5 does not do this. Python's warnings filters and logging do not see it, since
# the line is written in C. mujoco.set_mju_user_warning takes the handler's place; then there is neither line nor file.
#
# Why it matters: a training that is started in a folder under version control, or in one that cannot be written, gets or
# wants to write a file there. Only the order helps: the handler has to be set before the first environment is made.
#
# Output that was seen (exit status 0):
#
#     HalfCheetah-v5, by itself: MUJOCO_LOG.TXT is there, lines on 'settotalmass': 1
#     made once more: lines on 'settotalmass': 2
#     Hopper-v5: no MUJOCO_LOG.TXT
#     HalfCheetah-v5 with all Python warnings off: MUJOCO_LOG.TXT is there
#     HalfCheetah-v5 with mujoco.set_mju_user_warning: no MUJOCO_LOG.TXT, and 1 text for the function
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet "gymnasium[mujoco]==1.4.0" mujoco==4.0.0 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/make.py" <<'PYTHON'
import sys

import gymnasium

told = []
if "handler" in sys.argv:
    import mujoco

    mujoco.set_mju_user_warning(told.append)
gymnasium.make(sys.argv[1]).close()
print(len(told))
PYTHON

changed=0
expect() { # TEXT SEEN EXPECTED
  echo "$1: $2"
  if [ "$2" != "$3" ]; then
    echo "CHANGED: $1: expected '$3'"
    changed=1
  fi
}
made() { # FOLDER ARGUMENTS...: makes an environment in a folder; prints what the program printed last
  mkdir -p "$work/$1"
  (cd "$work/$1" && shift && "$work/venv/bin/python" "$@" 2> /dev/null | tail -n 1)
}
lines() { grep -c settotalmass "$work/$1/MUJOCO_LOG.TXT" 2> /dev/null || true; }
there() { [ -e "$work/$1/MUJOCO_LOG.TXT" ] && echo "MUJOCO_LOG.TXT is there" || echo "no MUJOCO_LOG.TXT"; }

made cheetah "$work/make.py" HalfCheetah-v5 > /dev/null
expect "HalfCheetah-v5, by itself" "$(there cheetah), lines on 'settotalmass': $(lines cheetah)" \
  "MUJOCO_LOG.TXT is there, lines on 'settotalmass': 1"
made cheetah "$work/make.py" HalfCheetah-v5 > /dev/null
expect "made once more" "lines on 'settotalmass': $(lines cheetah)" "lines on 'settotalmass': 2"
made hopper "$work/make.py" Hopper-v5 > /dev/null
expect "Hopper-v5" "$(there hopper)" "no MUJOCO_LOG.TXT"
made silent -W ignore "$work/make.py" HalfCheetah-v5 > /dev/null
expect "HalfCheetah-v5 with all Python warnings off" "$(there silent)" "MUJOCO_LOG.TXT is there"
texts=$(made handled "$work/make.py" HalfCheetah-v5 handler)
expect "HalfCheetah-v5 with mujoco.set_mju_user_warning" "$(there handled), and $texts text for the function" \
  "no MUJOCO_LOG.TXT, and 1 text for the function"
exit "$changed"
