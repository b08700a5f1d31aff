#!/usr/bin/env bash
# EnvPool reports a failure on the last allowed step as a truncation only.
#
# Versions: envpool 1.2.5, gymnasium 1.4.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: EnvPool's Gymnasium interface marks the end of an episode as Gymnasium does. There the two marks are
# independent: an episode that fails on its last allowed step is both terminated and truncated.
#
# Behaviour: in EnvPool it is truncated=True and terminated=False. At that step a failure looks the same as the end of
# the time. The wrapper computes `terminated = done & ~trunc`, so both can never be true. The infos of step() do not
# tell them apart.
#
# Why it matters: an algorithm continues the value after a truncation (it "bootstraps") and not after a termination. Here it
# adds the value of a failed state. The shorter the limit, the more often a failure meets the last step.
#
# Output that was seen (exit status 0):
#
#     CartPole-v1, limit 11, EnvPool: step 10, terminated
#     CartPole-v1, limit 11, Gymnasium: step 10, terminated
#     CartPole-v1, limit 11, pole beyond 12 degrees in EnvPool, Gymnasium: [True, True]
#     CartPole-v1, limit 10, EnvPool: step 10, truncated
#     CartPole-v1, limit 10, Gymnasium: step 10, terminated and truncated
#     CartPole-v1, limit 10, pole beyond 12 degrees in EnvPool, Gymnasium: [True, True]
#     CartPole-v1, limit 9, EnvPool: step 9, truncated
#     CartPole-v1, limit 9, Gymnasium: step 9, truncated
#     CartPole-v1, limit 9, pole beyond 12 degrees in EnvPool, Gymnasium: [False, False]
#     Hopper-v5, limit 1000, EnvPool: step 22, terminated
#     Hopper-v5, limit 22, EnvPool: step 22, truncated
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


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def words(step, terminated, truncated):
    marks = ["terminated"] * bool(terminated) + ["truncated"] * bool(truncated)
    return f"step {step}, {' and '.join(marks)}"


def in_envpool(name, action, limit):
    """One episode of the same action. Returns its first and last observation, its length and how it ended."""
    env = envpool.make_gymnasium(name, num_envs=1, seed=0, max_episode_steps=limit)
    first = env.reset()[0][0].copy()
    for step in range(1, limit + 1):
        observations, _, terminated, truncated, _ = env.step(np.array([action]))
        if terminated[0] or truncated[0]:
            return first, observations[0], step, words(step, terminated[0], truncated[0])


def in_gymnasium(name, action, limit, start):
    """The same in Gymnasium from the state `start`. Returns the last observation and how the episode ended."""
    env = gymnasium.make(name, max_episode_steps=limit)
    env.reset()
    env.unwrapped.state = start.astype(np.float64)
    for step in range(1, limit + 1):
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return observation, words(step, terminated, truncated)


# CartPole, pushed to the right at every step from the same start: the pole falls at step 10 in both libraries.
for limit, expected, reference in (
    (11, "step 10, terminated", "step 10, terminated"),
    (10, "step 10, truncated", "step 10, terminated and truncated"),
    (9, "step 9, truncated", "step 9, truncated"),
):
    start, last, _, seen = in_envpool("CartPole-v1", 1, limit)
    reference_last, reference_seen = in_gymnasium("CartPole-v1", 1, limit, start)
    fallen = [bool(abs(observation[2]) > np.radians(12)) for observation in (last, reference_last)]
    expect(f"CartPole-v1, limit {limit}, EnvPool", seen, expected)
    expect(f"CartPole-v1, limit {limit}, Gymnasium", reference_seen, reference)
    expect(f"CartPole-v1, limit {limit}, pole beyond 12 degrees in EnvPool, Gymnasium", fallen, [limit >= 10] * 2)

# Hopper, all motors at full power, first with its own limit, then with a limit at the step of its fall.
_, _, step, seen = in_envpool("Hopper-v5", np.ones(3), 1000)
expect("Hopper-v5, limit 1000, EnvPool", seen, f"step {step}, terminated")
_, _, _, seen = in_envpool("Hopper-v5", np.ones(3), step)
expect(f"Hopper-v5, limit {step}, EnvPool", seen, f"step {step}, truncated")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
