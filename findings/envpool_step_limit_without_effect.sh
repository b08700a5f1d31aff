#!/usr/bin/env bash
# Some tasks of EnvPool accept max_episode_steps and ignore it.
#
# Versions: envpool 1.2.5, gymnasium 1.4.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: max_episode_steps ends an episode after that many steps, marked as truncated, as in Gymnasium. EnvPool's
# documentation lists it as an option of all environments, and once more for the tasks of Jumanji ("the maximum number of
# steps for one episode").
#
# Behaviour, with a limit of 5 steps:
# - MountainCar-v0 (the control) ends at step 5 in both libraries.
# - CliffWalking-v1 ends at step 5 in Gymnasium. In EnvPool it does not end: not in 1,000 steps. When the goal is
#   reached after the limit (step 13), this success is marked as truncated, not as terminated. So the limit does not end the
#   episode, and yet it changes how the end is marked.
# - RubiksCube-v0 (of Jumanji) goes on to its own 200 steps, and this end is marked as terminated.
# No error and no warning, and the configuration shows the limit that was asked for.
#
# What to do: make one episode and look at its length before you trust the limit of a task.
#
# Output that was seen (exit status 0):
#
#     MountainCar-v0, Gymnasium: step 5, truncated
#     MountainCar-v0, the limit in its configuration: 5
#     MountainCar-v0, EnvPool: step 5, truncated
#     CliffWalking-v1, up, Gymnasium: step 5, truncated
#     CliffWalking-v1, the limit in its configuration: 5
#     CliffWalking-v1, up, EnvPool: no end in 1000 steps
#     CliffWalking-v1, to the goal, EnvPool without a limit: step 13, terminated
#     CliffWalking-v1, the limit in its configuration: 5
#     CliffWalking-v1, to the goal, EnvPool: step 13, truncated
#     RubiksCube-v0, EnvPool with its own limit: step 200, terminated
#     RubiksCube-v0, the limit in its configuration: 5
#     RubiksCube-v0, EnvPool: step 200, terminated
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 gymnasium==1.4.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import envpool
import gymnasium
import numpy as np

warnings.simplefilter("ignore")  # Gymnasium's, of the precision of a space
changes = []
LIMIT = 5


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def episode(env, actions, wrap):
    """How an episode of these actions ends, in words."""
    env.reset()
    for step, action in enumerate(actions, 1):
        _, _, terminated, truncated, _ = env.step(wrap(action))
        if np.any(terminated) or np.any(truncated):
            marks = ["terminated"] * bool(np.any(terminated)) + ["truncated"] * bool(np.any(truncated))
            return f"step {step}, {' and '.join(marks)}"
    return f"no end in {len(actions)} steps"


def in_envpool(name, actions, **options):
    env = envpool.make_gymnasium(name, num_envs=1, seed=0, **options)
    if options:
        expect(f"{name}, the limit in its configuration", env.spec.config.max_episode_steps, LIMIT)
    return episode(env, actions, lambda action: np.array([action], dtype=np.int32))


def in_gymnasium(name, actions):
    return episode(gymnasium.make(name, max_episode_steps=LIMIT), actions, int)


# The control: here the limit works in both libraries.
left = [0] * 1000
expect("MountainCar-v0, Gymnasium", in_gymnasium("MountainCar-v0", left), "step 5, truncated")
expect("MountainCar-v0, EnvPool", in_envpool("MountainCar-v0", left, max_episode_steps=LIMIT), "step 5, truncated")

# Up forever: the walker stays at the upper edge and never arrives.
up = [0] * 1000
expect("CliffWalking-v1, up, Gymnasium", in_gymnasium("CliffWalking-v1", up), "step 5, truncated")
expect("CliffWalking-v1, up, EnvPool", in_envpool("CliffWalking-v1", up, max_episode_steps=LIMIT), "no end in 1000 steps")

# The shortest way to the goal: up, eleven times to the right, down. The goal is reached after the limit.
way = [0] + [1] * 11 + [2]
expect("CliffWalking-v1, to the goal, EnvPool without a limit", in_envpool("CliffWalking-v1", way), "step 13, terminated")
expect("CliffWalking-v1, to the goal, EnvPool", in_envpool("CliffWalking-v1", way, max_episode_steps=LIMIT), "step 13, truncated")

# A Rubik's cube, one face turned again and again. Its own limit is 200 steps.
turns = [[0, 0, 0]] * 1000
expect("RubiksCube-v0, EnvPool with its own limit", in_envpool("RubiksCube-v0", turns), "step 200, terminated")
expect("RubiksCube-v0, EnvPool", in_envpool("RubiksCube-v0", turns, max_episode_steps=LIMIT), "step 200, terminated")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
