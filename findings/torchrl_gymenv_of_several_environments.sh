#!/usr/bin/env bash
# TorchRL's GymEnv(..., num_envs=N) stores zeros as the last observation of every episode, and a false step after it.
#
# Versions: torchrl 0.14.1, tensordict 0.14.3, gymnasium 1.4.0, torch 2.13.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: num_envs makes N environments in one vector environment of Gymnasium. A rollout holds the same as one of N single
# environments: each episode's last observation under "next", and then the first observation of another episode.
#
# Behaviour: TorchRL knows that it cannot read a vector environment that resets in the next step (NEXT_STEP): given such a one,
# GymWrapper refuses it with an error. But GymEnv makes its own with Gymnasium's default, which is NEXT_STEP, and does not check
# it. So with num_envs
# - the last observation of each episode is all zeros, a state that Pendulum cannot be in (its first two numbers are a cosine and
#   a sine);
# - where the environments do not all end at once, as in CartPole, a row follows that begins with the true last observation, whose
#   action had no effect and whose reward is 0 (CartPole pays 1 at every step).
# The controls: environments in a SerialEnv, and GymWrapper around a vector environment with SAME_STEP, show none of this.
#
# Why it matters: where a time limit ends episodes, the value of the state of zeros is added to the return in place of the last
# state's. And a row of each episode teaches a transition that does not exist.
#
# What to do: GymWrapper around gymnasium.make_vec(..., vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}), or ParallelEnv.
#
# Output that was seen (exit status 0):
#
#     SerialEnv: Pendulum ended with zeros 0 times of 8, CartPole has rows without reward: False
#     GymWrapper, SAME_STEP: Pendulum ended with zeros 0 times of 8, CartPole has rows without reward: False
#     GymEnv with num_envs: Pendulum ended with zeros 8 times of 8, CartPole has rows without reward: True
#     GymWrapper, NEXT_STEP: refused
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torchrl==0.14.1 tensordict==0.14.3 gymnasium==1.4.0 torch==2.13.0 numpy==2.4.6 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/look.py" <<'PYTHON'
import logging
import sys

import gymnasium
import torch
from torchrl.envs import GymEnv, GymWrapper, SerialEnv

logging.disable(logging.CRITICAL)
STEPS, LIMIT = 23, {"max_episode_steps": 5}
changes = []


def expect(line, expected):
    print(line, flush=True)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


def vector(mode, task, options):
    made = {"autoreset_mode": gymnasium.vector.AutoresetMode[mode]}
    return GymWrapper(gymnasium.make_vec(task, num_envs=2, vectorization_mode="sync", vector_kwargs=made, **options))


def rollout(env, steps):
    env.set_seed(0)
    torch.manual_seed(0)
    after = env.rollout(steps, break_when_any_done=False)["next"]
    env.close()
    return after


def seen(make):
    pendulum, cartpole = rollout(make("Pendulum-v1", LIMIT), STEPS), rollout(make("CartPole-v1", {}), 60)
    ends = pendulum["done"][..., 0]
    zeros = (pendulum["observation"][ends] == 0).all(-1).sum()
    unpaid = bool((cartpole["reward"] == 0).any())
    return f"Pendulum ended with zeros {zeros} times of {ends.sum()}, CartPole has rows without reward: {unpaid}"


def main():
    fine = "Pendulum ended with zeros 0 times of 8, CartPole has rows without reward: False"
    wrong = "Pendulum ended with zeros 8 times of 8, CartPole has rows without reward: True"
    serial = seen(lambda task, options: SerialEnv(2, lambda: GymEnv(task, **options)))
    expect(f"SerialEnv: {serial}", f"SerialEnv: {fine}")
    same = seen(lambda task, options: vector("SAME_STEP", task, options))
    expect(f"GymWrapper, SAME_STEP: {same}", f"GymWrapper, SAME_STEP: {fine}")
    own = seen(lambda task, options: GymEnv(task, num_envs=2, **options))
    expect(f"GymEnv with num_envs: {own}", f"GymEnv with num_envs: {wrong}")
    try:
        vector("NEXT_STEP", "Pendulum-v1", LIMIT)
        answer = "taken"
    except RuntimeError:
        answer = "refused"
    expect(f"GymWrapper, NEXT_STEP: {answer}", "GymWrapper, NEXT_STEP: refused")
    for change in changes:
        print("CHANGED:", change)
    sys.exit(1 if changes else 0)


if __name__ == "__main__":
    main()
PYTHON
"$work/venv/bin/python" -W ignore "$work/look.py" 2> "$work/errors.txt" || { tail -n 5 "$work/errors.txt"; exit 1; }
