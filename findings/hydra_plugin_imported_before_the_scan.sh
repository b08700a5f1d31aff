#!/usr/bin/env bash
# Hydra's scan for plugins runs a plugin's module a second time if the program has imported it before.
#
# Versions: hydra-core 1.3.8, omegaconf 2.3.1, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: a module that is in sys.modules is not run again when something else imports it.
#
# Behaviour: the scan, which happens the first time that Hydra needs a plugin, asks the loader of every module below
# hydra_plugins to load it, without a look at sys.modules. The module's code then runs again in the same module object.
# Its classes are replaced by others of the same name, its global state begins anew, and isinstance is False for every
# object that was made before. Nothing is printed. Modules whose names begin with an underscore are left out, and so keep
# their classes. A second request for plugins does not scan again.
#
# Why it matters: a program that ships its own sweeper or launcher, and imports it or its settings for other purposes
# first, holds two classes of each name. A dataclass that is used as a schema, or an error that is to be caught, is then
# not recognized, in one order of imports only.
#
# Output that was seen (exit status 0):
#
#     runs of the module that was imported before the scan: 2
#     the class is still the same: False
#     an object made before is one of the class: False
#     a number that the module counts up, after the scan: 0 (it was 1)
#     the module with an underscore: runs 1, the same class True
#     runs after another request for plugins: 2
#     a module that nobody imported before: runs 1
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet hydra-core==1.3.8 omegaconf==2.3.1 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

mkdir -p "$work/hydra_plugins/ours"
: > "$work/hydra_plugins/ours/__init__.py"
for name in early _hidden late; do
  cat > "$work/hydra_plugins/ours/$name.py" <<'PYTHON'
import builtins

builtins.runs[__name__.rpartition(".")[2]] = builtins.runs.get(__name__.rpartition(".")[2], 0) + 1
counted = 0


class Thing:
    pass
PYTHON
done

cat > "$work/scan.py" <<'PYTHON'
import builtins
import warnings

warnings.simplefilter("ignore")
builtins.runs = {}

from hydra.core.plugins import Plugins  # noqa: E402
from hydra_plugins.ours import _hidden, early  # noqa: E402

thing, cls, hidden = early.Thing(), early.Thing, _hidden.Thing
early.counted += 1
was = early.counted
Plugins.instance()
print("runs of the module that was imported before the scan:", runs["early"])
print("the class is still the same:", cls is early.Thing)
print("an object made before is one of the class:", isinstance(thing, early.Thing))
print(f"a number that the module counts up, after the scan: {early.counted} (it was {was})")
print(f"the module with an underscore: runs {runs['_hidden']}, the same class {hidden is _hidden.Thing}")
Plugins.instance()
print("runs after another request for plugins:", runs["early"])
print("a module that nobody imported before: runs", runs["late"])
PYTHON

expected="runs of the module that was imported before the scan: 2
the class is still the same: False
an object made before is one of the class: False
a number that the module counts up, after the scan: 0 (it was 1)
the module with an underscore: runs 1, the same class True
runs after another request for plugins: 2
a module that nobody imported before: runs 1"

seen=$(PYTHONPATH="$work" "$work/venv/bin/python" "$work/scan.py")
echo "$seen"
changed=0
while IFS= read -r wanted <&3 && IFS= read -r line <&4; do
  if [ "$line" != "$wanted" ]; then
    echo "CHANGED: expected '$wanted'"
    changed=1
  fi
done 3<<< "$expected" 4<<< "$seen"
[ "$(wc -l <<< "$seen")" = "$(wc -l <<< "$expected")" ] || { echo "CHANGED: another number of lines"; changed=1; }
exit "$changed"
