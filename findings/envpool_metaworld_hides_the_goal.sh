#!/usr/bin/env bash
# EnvPool's MetaWorld/Reach-v3 hides the goal that Meta-World's own reach-v3 shows, and the goal changes with every episode.
#
# Versions: envpool 1.2.5, metaworld 3.0.0, mujoco 3.3.2 (metaworld 3.0.0 cannot reset with 4.0.0), gymnasium 1.4.0,
# numpy 2.4.6, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: the same observation under the same name of a task. The last three numbers of Meta-World's 39 are the place of
# the goal. gymnasium.make("Meta-World/MT1", env_name="reach-v3") shows it.
#
# Behaviour: EnvPool has the option partially_observable, and it is true unless it is given. The last three numbers are then
# 0 in all 50 tasks. Goals still move from episode to episode, in 26 tasks without anything else that tells where they are
# (Reach, Push, PickPlace and others). No policy without a memory can solve these; a return rises a little and stays there. Two
# episodes of PlateSlide-v3 with the same observations and actions pay different rewards.
# Nothing tells of it: the observation has the shape of the full one.
#
# What to do: envpool.make(..., partially_observable=False).
#
# Output that was seen (exit status 0):
#
#     metaworld reach-v3: the goal is shown in 3 of 3 episodes, 3 places
#     EnvPool MetaWorld/Reach-v3: the last three numbers are 0 in 12 of 12 episodes
#     EnvPool MetaWorld/Reach-v3, partially_observable=False: the last three numbers are 0 in 0 of 12 episodes, 12 places
#     EnvPool MetaWorld/PlateSlide-v3, same actions: observations differ by 0.0, rewards differ: True
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 metaworld==3.0.0 mujoco==3.3.2 gymnasium==1.4.0 numpy==2.4.6 \
  packaging==26.2 imageio==2.37.3 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("ignore")

import envpool
import gymnasium
import metaworld  # it registers Meta-World/MT1
import numpy as np

gymnasium.logger.min_level = gymnasium.logger.ERROR
changes = []


def expect(seen, expected):
    print(seen)
    if seen != expected:
        changes.append(f"expected: {expected}; seen: {seen}")


def places(goals):
    return len(np.unique(np.round(goals, 6), axis=0))


env = gymnasium.make("Meta-World/MT1", env_name="reach-v3", seed=3)
shown = np.array([env.reset()[0][-3:] for _ in range(3)])
told = np.count_nonzero(shown.any(axis=1))
expect(
    f"metaworld reach-v3: the goal is shown in {told} of 3 episodes, {places(shown)} places",
    "metaworld reach-v3: the goal is shown in 3 of 3 episodes, 3 places",
)


def goals(**options):
    """The last three numbers of the first observations of twelve episodes."""
    env = envpool.make_gymnasium("MetaWorld/Reach-v3", num_envs=4, seed=3, num_threads=1, max_episode_steps=2, **options)
    found = [env.reset()[0][:, -3:].copy()]
    for _ in range(2):
        for _ in range(3):  # two steps, and the one that resets
            observation, *_ = env.step(np.zeros((4, 4)))
        found.append(observation[:, -3:].copy())
    return np.concatenate(found)


name = "EnvPool MetaWorld/Reach-v3"
hidden = np.count_nonzero(~goals().any(axis=1))
expect(f"{name}: the last three numbers are 0 in {hidden} of 12 episodes", f"{name}: the last three numbers are 0 in 12 of 12 episodes")
open_ = goals(partially_observable=False)
hidden = np.count_nonzero(~open_.any(axis=1))
name += ", partially_observable=False"
expect(
    f"{name}: the last three numbers are 0 in {hidden} of 12 episodes, {places(open_)} places",
    f"{name}: the last three numbers are 0 in 0 of 12 episodes, 12 places",
)

env = envpool.make_gymnasium("MetaWorld/PlateSlide-v3", num_envs=2, seed=3, num_threads=1)
env.reset()
rng = np.random.default_rng(0)
apart, paid = 0.0, False
for _ in range(450):
    observation, reward, *_ = env.step(np.repeat(rng.uniform(-1, 1, (1, 4)), 2, axis=0))
    apart = max(apart, float(abs(observation[0] - observation[1]).max()))
    paid |= bool(abs(reward[0] - reward[1]) > 1e-4)
expect(
    f"EnvPool MetaWorld/PlateSlide-v3, same actions: observations differ by {apart}, rewards differ: {paid}",
    "EnvPool MetaWorld/PlateSlide-v3, same actions: observations differ by 0.0, rewards differ: True",
)

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
