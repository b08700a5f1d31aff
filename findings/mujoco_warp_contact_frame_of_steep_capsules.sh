#!/usr/bin/env bash
# mujoco-warp turns the contact frame of a capsule that stands steeper than 60 degrees on a plane, and so its friction.
#
# Versions: mujoco-warp 4.0.0, warp-lang 1.19.0, mujoco 4.0.0, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: mujoco-warp computes MuJoCo's contacts. Both say that they align the contact frame with the capsule.
#
# Behaviour: MuJoCo takes the capsule's axis for the first tangent, however steep the capsule stands, unless it stands
# exactly upright. mujoco-warp projects the axis onto the plane first, and where less than half of it remains (steeper than
# 60 degrees) it takes a fixed axis of the world. With a pyramidal cone, which is the default, friction depends on the
# directions of the tangents: from the same state the capsule is accelerated otherwise. With an elliptic cone, or below 60
# degrees, the two agree to rounding.
#
# Why it matters: legs are capsules. In Gymnasium's Ant-v5 every leg that stands steeply gets other friction forces, a
# tenth of its acceleration and more. It looks like rounding of contacts, but does not go away with float64 or a tolerance.
#
# Output that was seen (exit status 0):
#
#     pyramidal, 50 degrees: first tangents are the same, accelerations differ by less than 1 %
#     pyramidal, 70 degrees: first tangents are 40 degrees apart, accelerations differ by more than 1 %
#     elliptic, 70 degrees: first tangents are 40 degrees apart, accelerations differ by less than 1 %
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet mujoco-warp==4.0.0 warp-lang==1.19.0 mujoco==4.0.0 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/one.py" <<'PYTHON'
import sys

import mujoco
import numpy as np
import warp

warp.config.log_level = warp.LOG_WARNING
import mujoco_warp

cone, steep = sys.argv[1], float(sys.argv[2])
tilt, turn = np.radians(90 - steep), np.radians(50)  # from the upright; of the capsule's shadow from the x axis
axis = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
height = 0.3 * np.cos(tilt) + 0.05 - 1e-3
low, high = np.array([0, 0, height]) - 0.3 * axis, np.array([0, 0, height]) + 0.3 * axis
model = mujoco.MjModel.from_xml_string(f"""
<mujoco><option cone="{cone}"/><worldbody>
  <geom type="plane" size="5 5 1"/>
  <body><freejoint/><geom type="capsule" size="0.05" fromto="{' '.join(map(str, (*low, *high)))}"/></body>
</worldbody></mujoco>""")
data = mujoco.MjData(model)
data.qvel[:3] = 0.1, 0.3, 0.0  # it slides
mujoco.mj_forward(model, data)
with warp.ScopedDevice("cpu"):
    worlds = mujoco_warp.put_data(model, data)
    mujoco_warp.forward(mujoco_warp.put_model(model), worlds)
assert data.ncon == worlds.nacon.numpy()[0] == 1
ours, theirs = data.contact.frame[0, 3:6], worlds.contact.frame.numpy()[0].reshape(3, 3)[1]
apart = round(float(np.degrees(np.arccos(min(abs(ours @ theirs), 1)))))
difference = np.abs(data.qacc - worlds.qacc.numpy()[0]).max() / np.abs(data.qacc).max()
print(
    f"first tangents are {f'{apart} degrees apart' if apart else 'the same'}, accelerations differ by "
    f"{'more' if difference > 0.01 else 'less'} than 1 %"
)
PYTHON

changed=0
expect() { # TEXT SEEN EXPECTED
  echo "$1: $2"
  if [ "$2" != "$3" ]; then
    echo "CHANGED: $1: expected '$3'"
    changed=1
  fi
}
seen() { WARP_CACHE_PATH="$work/kernels" "$work/venv/bin/python" "$work/one.py" "$@" 2> /dev/null; }

expect "pyramidal, 50 degrees" "$(seen pyramidal 50)" "first tangents are the same, accelerations differ by less than 1 %"
expect "pyramidal, 70 degrees" "$(seen pyramidal 70)" \
  "first tangents are 40 degrees apart, accelerations differ by more than 1 %"
expect "elliptic, 70 degrees" "$(seen elliptic 70)" \
  "first tangents are 40 degrees apart, accelerations differ by less than 1 %"
exit "$changed"
