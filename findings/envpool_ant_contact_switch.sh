#!/usr/bin/env bash
# EnvPool's Ant-v5 without contact forces in its observations has another reward; Gymnasium's Ant-v5 has not.
#
# Versions: envpool 1.2.5, gymnasium 1.4.0, mujoco 4.0.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-30.
#
# Expected: 78 of the 105 numbers that Ant-v5 shows are contact forces, which a policy can do without. In
# Gymnasium's version 5 the argument include_cfrc_ext_in_observation=False leaves them out, and the reward still has its
# cost of contacts. EnvPool has the same id, so its switch should do the same.
#
# Behaviour:
# - EnvPool's Ant-v5 does not know the argument of Gymnasium's version 5. Its switch is use_contact_force, much as in
#   version 4.
# - use_contact_force=False leaves out the 78 numbers and, silently, the cost of contacts: reward_contact is 0 at every step.
#   So returns of the two libraries are of different tasks, though id and observations agree.
# - The control: with contact forces shown, both libraries subtract a cost at every step of contact.
#
# What to do: for Ant-v5 without contact forces, use Gymnasium's own; or leave the switch of EnvPool on, and drop the last 78
# numbers of an observation.
#
# Output that was seen (exit status 0):
#
#     Gymnasium, contact forces shown: 105 numbers, contacts cost something
#     EnvPool, contact forces shown: 105 numbers, contacts cost something
#     Gymnasium, include_cfrc_ext_in_observation=False: 27 numbers, contacts cost something
#     EnvPool, use_contact_force=False: 27 numbers, contacts cost nothing
#     EnvPool knows include_cfrc_ext_in_observation: False
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet envpool==1.2.5 gymnasium==1.4.0 mujoco==4.0.0 numpy==2.4.6 imageio==2.38.1 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import envpool
import gymnasium
import numpy as np

warnings.simplefilter("ignore")  # Gymnasium's, of the precision of a space
changes = []
STEPS = 20


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def actions():
    return np.random.default_rng(0).uniform(-1, 1, (STEPS, 8))


def told(size, costs):
    """How many numbers an observation has, and whether contacts cost something within the first steps."""
    return f"{size} numbers, contacts {'cost something' if min(costs) < 0 else 'cost nothing'}"


def in_gymnasium(**options):
    env = gymnasium.make("Ant-v5", **options)
    observation, _ = env.reset(seed=0)
    return told(observation.size, [env.step(action)[4]["reward_contact"] for action in actions()])


def in_envpool(**options):
    env = envpool.make_gymnasium("Ant-v5", num_envs=1, seed=0, **options)
    observation, _ = env.reset()
    return told(observation[0].size, [float(env.step(action[None])[4]["reward_contact"][0]) for action in actions()])


expect("Gymnasium, contact forces shown", in_gymnasium(), "105 numbers, contacts cost something")
expect("EnvPool, contact forces shown", in_envpool(), "105 numbers, contacts cost something")
without = in_gymnasium(include_cfrc_ext_in_observation=False)
expect("Gymnasium, include_cfrc_ext_in_observation=False", without, "27 numbers, contacts cost something")
expect("EnvPool, use_contact_force=False", in_envpool(use_contact_force=False), "27 numbers, contacts cost nothing")
known = hasattr(envpool.make_spec("Ant-v5").config, "include_cfrc_ext_in_observation")
expect("EnvPool knows include_cfrc_ext_in_observation", known, False)

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
