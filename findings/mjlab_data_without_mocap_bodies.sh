#!/usr/bin/env bash
# mjlab on a processor cannot give the mocap poses of a model that has no mocap bodies: TypeError instead of an empty tensor.
#
# Versions: mjlab 1.6.0, mujoco 3.11.0, mujoco-warp 3.11.0, warp-lang 1.19.0, torch 2.13.0, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: every array of `Simulation(...).data` reads as a tensor. A model without tendons, actuators with a state or mocap
# bodies has empty ones: [N, 0], or [N, 0, 3].
#
# Behaviour: on a processor, empty arrays of numbers read as empty tensors. Empty arrays of vectors and quaternions raise
# TypeError, "Cannot convert <class vec3f> to a Torch type": `mocap_pos` and `mocap_quat` of a model without mocap bodies. With
# one mocap body both can be read. mjlab makes empty tensors itself there, from the type of an array's elements, and only
# plain numbers have one in PyTorch.
#
# Why it matters: code that walks over all fields of the data, to save a state or to compare two, works with the first
# model that has a mocap body and fails with most others.
#
# Output that was seen (exit status 0):
#
#     one mocap body: act (2, 0), ten_length (2, 0), mocap_pos (2, 1, 3), mocap_quat (2, 1, 4)
#     none: act (2, 0), ten_length (2, 0), mocap_pos TypeError, mocap_quat TypeError
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet mjlab==1.6.0 mujoco==3.11.0 mujoco-warp==3.11.0 warp-lang==1.19.0 torch==2.13.0 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/both.py" <<'PYTHON'
import mujoco
import warp

warp.config.log_level = warp.LOG_WARNING
from mjlab.sim import Simulation, SimulationCfg


def read(data, name):
    try:
        return str(tuple(getattr(data, name).shape))
    except TypeError as error:
        assert "to a Torch type" in str(error), error
        return "TypeError"


BODY = '<body mocap="true"><geom size="0.1" contype="0" conaffinity="0"/></body>'
for what, further in (("one mocap body", BODY), ("none", "")):
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><body><joint type="hinge"/><geom size="0.1"/></body>{further}</worldbody></mujoco>'
    )
    data = Simulation(2, SimulationCfg(), model, device="cpu").data
    names = ("act", "ten_length", "mocap_pos", "mocap_quat")
    print(f"{what}: " + ", ".join(f"{name} {read(data, name)}" for name in names))
PYTHON

cat > "$work/expected.txt" <<'TEXT'
one mocap body: act (2, 0), ten_length (2, 0), mocap_pos (2, 1, 3), mocap_quat (2, 1, 4)
none: act (2, 0), ten_length (2, 0), mocap_pos TypeError, mocap_quat TypeError
TEXT
export WARP_CACHE_PATH=$work/warp
"$work/venv/bin/python" -W ignore "$work/both.py" > "$work/seen.txt" 2> "$work/errors.txt" || cat "$work/errors.txt"
cat "$work/seen.txt"
cmp -s "$work/seen.txt" "$work/expected.txt" || { echo "CHANGED: it was otherwise, see the comment above"; exit 1; }
