#!/usr/bin/env bash
# EnvPool's Jumanji Maze begins some episodes in a cell with walls on all sides, under a mask that allows no action.
#
# Versions: envpool 1.2.5, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: a maze that is generated for an agent lets the agent reach its target, and the observation's action_mask, which
# says where there is no wall, allows one of the four moves at least.
#
# Behaviour: of 200 environments with the seeds 0 to 199, twelve begin with a mask of four times False. The grid of walls
# agrees with the mask: all four neighbours of the agent's cell are walls or lie outside. Any action then ends the episode
# at once, as terminated, with reward 0. The masks of later steps allow a move always, in 100 random walks along the mask.
#
# Why it matters: a sampler over masked logits has nothing to choose from. A softmax over four times the lowest number is
# uniform, so that many programs do not notice; one that checks masks stops at the first such reset, and one that divides
# by the number of allowed actions gets NaN. With 16 environments it is likely to be met within the first few resets.
#
# Output that was seen (exit status 0):
#
#     resets whose mask allows nothing: 12 of 200
#     of these, cells with walls on all sides: 12
#     after one step there: terminated 12 of 12, sum of rewards 0.0
#     later steps whose mask allows nothing: 0 of 2000 and more
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import envpool
import numpy as np

SEEDS = 200


def closed_in(observation):
    """Whether all four neighbours of the agent's cell are walls or outside."""
    walls = observation["walls"][0].astype(bool)
    row, column = (int(np.ravel(observation["agent_position"][name])[0]) for name in ("row", "col"))
    padded = np.pad(walls, 1, constant_values=True)
    around = [(row, column + 1), (row + 2, column + 1), (row + 1, column), (row + 1, column + 2)]
    return all(padded[place] for place in around)


changes, empty, walled, ended, rewards = [], 0, 0, 0, 0.0
later, later_empty = 0, 0
draw = np.random.default_rng(0)
for seed in range(SEEDS):
    env = envpool.make_gymnasium("Maze-v0", num_envs=1, seed=seed)
    observation, _ = env.reset()
    if not observation["action_mask"].any():
        empty += 1
        walled += closed_in(observation)
        _, reward, terminated, _, _ = env.step(np.array([0], dtype=np.int32))
        ended += int(terminated[0])
        rewards += float(reward[0])
        continue
    if seed >= 100:
        continue
    for _ in range(50):
        allowed = np.flatnonzero(observation["action_mask"][0])
        observation, _, terminated, truncated, _ = env.step(np.array([draw.choice(allowed)], dtype=np.int32))
        if terminated[0] or truncated[0]:
            break
        later += 1
        later_empty += not observation["action_mask"].any()
print(f"resets whose mask allows nothing: {empty} of {SEEDS}")
print(f"of these, cells with walls on all sides: {walled}")
print(f"after one step there: terminated {ended} of {empty}, sum of rewards {rewards}")
print(f"later steps whose mask allows nothing: {later_empty} of {'2000 and more' if later >= 2000 else later}")
if empty != 12:
    changes.append(f"{empty} resets allow nothing, not 12")
if walled != empty or ended != empty or rewards:
    changes.append("what such a cell is, or what a step there does")
if later_empty or later < 2000:
    changes.append(f"{later_empty} of {later} later masks allow nothing")
for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
