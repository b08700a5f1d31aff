#!/usr/bin/env bash
# In mjlab, a reset of one world gives the other worlds new observation noise, unless observations have a history.
#
# Versions: mjlab 1.6.0, mujoco 3.11.0, mujoco-warp 3.11.0, warp-lang 1.19.0, torch 2.13.0, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: `reset(env_ids=...)` of a ManagerBasedRlEnv begins an episode in these worlds. For the others nothing has happened: no
# time passed, their states are the same, and so should their observations be.
#
# Behaviour: the observations of all worlds are computed again, with newly drawn noise. So two observations of one state
# follow each other for worlds that were not reset. With `history_length` set it is not so: there the history of the other worlds is
# left alone, and their observations stay as they were, noise included.
#
# Why it matters: whoever steps with `auto_reset=False` and resets by hand stores one observation as the answer to an action,
# and acts on another one. Two runs with the same seed that differ in one world's end differ in all worlds' observations.
#
# Output that was seen (exit status 0):
#
#     no history: states of the other worlds kept, observations kept: False
#     a history of 3: states of the other worlds kept, observations kept: True
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet mjlab==1.6.0 mujoco==3.11.0 mujoco-warp==3.11.0 warp-lang==1.19.0 torch==2.13.0 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/one.py" <<'PYTHON'
import contextlib
import io
import sys

import torch
import warp

warp.config.log_level = warp.LOG_WARNING
with contextlib.redirect_stdout(io.StringIO()):
    import mjlab.tasks
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.tasks.registry import load_env_cfg
    from mjlab.utils.noise import UniformNoiseCfg

history = int(sys.argv[1])
config = load_env_cfg("Mjlab-Cartpole-Balance")
config.scene.num_envs, config.seed = 3, 1
group = config.observations["actor"]
group.enable_corruption = True
group.history_length = history or None
for term in group.terms.values():
    term.noise = UniformNoiseCfg(n_min=-0.1, n_max=0.1)
with contextlib.redirect_stdout(io.StringIO()):
    env = ManagerBasedRlEnv(config, device="cpu")
    env.reset()
    for _ in range(4):
        seen = env.step(torch.ones(3, 1))[0]["actor"].clone()
    states = [env.sim.data.qpos[1:].clone(), env.sim.data.qvel[1:].clone()]
    again = env.reset(env_ids=torch.tensor([0]))[0]["actor"]
assert not torch.equal(again[0], seen[0]), "world 0 begins an episode"
kept = torch.equal(states[0], env.sim.data.qpos[1:]) and torch.equal(states[1], env.sim.data.qvel[1:])
name = f"a history of {history}" if history else "no history"
print(f"{name}: states of the other worlds {'kept' if kept else 'changed'}, "
      f"observations kept: {torch.equal(again[1:], seen[1:])}")
PYTHON

export WARP_CACHE_PATH=$work/warp
expected=("no history: states of the other worlds kept, observations kept: False"
  "a history of 3: states of the other worlds kept, observations kept: True")
changed=0
for index in 0 1; do
  seen=$("$work/venv/bin/python" -W ignore "$work/one.py" $((3 * index)) 2> "$work/errors.txt" | tail -1) || cat "$work/errors.txt"
  echo "$seen"
  if [ "$seen" != "${expected[$index]}" ]; then
    echo "CHANGED: expected '${expected[$index]}'"
    changed=1
  fi
done
exit "$changed"
