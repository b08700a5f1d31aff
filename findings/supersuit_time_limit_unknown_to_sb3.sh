#!/usr/bin/env bash
# Through SuperSuit's bridge to Stable-Baselines3, every time limit of a PettingZoo environment counts as a real end.
#
# Versions: supersuit 3.11.0, stable-baselines3 2.9.2, pettingzoo 1.27.0, gymnasium 1.3.0, torch 2.13.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: concat_vec_envs_v1(..., base_class="stable_baselines3") is what SuperSuit offers to train PettingZoo's environments with
# Stable-Baselines3. An episode that is cut off (truncated, not terminated) is worth what its last state is worth: Stable-Baselines3
# adds the value of the last observation, where info["TimeLimit.truncated"] says so.
#
# Behaviour: the bridge joins both marks to one "done" and hands on the last observation, but does not write
# info["TimeLimit.truncated"]. So the value is never added, and nothing says so. In a task that pays 1 at each step and is cut off
# after five, with a discount of 0.9, PPO learns a value near 2.6 (the mean of what is left of five steps) instead of 10.
# The control: the same task as a Gymnasium environment in Stable-Baselines3's DummyVecEnv has the mark, and PPO learns 10.
#
# Why it matters: nearly all PettingZoo tasks end by a limit (max_cycles). The same algorithm with the same settings learns
# shorter-sighted values there than in a single-agent task, the more so the shorter the limit.
#
# What to do: let the environment write "TimeLimit.truncated": True into the infos of its agents where it cuts an episode off; the
# bridge hands them on. PettingZoo issue 1126 is of the same confusion in the CleanRL tutorials.
#
# Output that was seen (exit status 0):
#
#     DummyVecEnv: last step of an episode: done True, TimeLimit.truncated True, last observation True
#     DummyVecEnv: value near 10: True
#     SuperSuit: last step of an episode: done True, TimeLimit.truncated None, last observation True
#     SuperSuit: value near 2.6: True
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet supersuit==3.11.0 stable-baselines3==2.9.2 pettingzoo==1.27.0 gymnasium==1.3.0 torch==2.13.0 \
  numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import gymnasium
import numpy as np
import supersuit
import torch
from pettingzoo.utils import ParallelEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

STEPS, DISCOUNT = 5, 0.9
SEEN, ACTIONS = gymnasium.spaces.Box(0, 1, (1,), np.float32), gymnasium.spaces.Discrete(2)
changes = []


def expect(line, expected):
    print(line, flush=True)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


class Single(gymnasium.Env):
    observation_space, action_space = SEEN, ACTIONS

    def reset(self, seed=None, options=None):
        self.time = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.ones(1, np.float32), 1.0, False, self.time == STEPS, {}


class Parallel(ParallelEnv):
    metadata, possible_agents, render_mode = {"name": "parallel", "render_modes": []}, ["agent"], None

    def observation_space(self, agent):
        return SEEN

    def action_space(self, agent):
        return ACTIONS

    def reset(self, seed=None, options=None):
        self.agents, self.single = ["agent"], Single()
        return tuple({"agent": part} for part in self.single.reset())

    def step(self, actions):
        parts = self.single.step(actions["agent"])
        self.agents = [] if parts[3] else ["agent"]
        return tuple({"agent": part} for part in parts)


def bridge():
    return supersuit.concat_vec_envs_v1(supersuit.pettingzoo_env_to_vec_env_v1(Parallel()), 1, num_cpus=0, base_class="stable_baselines3")


def last_step(env):
    env.reset()
    for _ in range(STEPS):
        _, _, dones, infos = env.step(np.zeros(1, int))
    mark, last = infos[0].get("TimeLimit.truncated"), "terminal_observation" in infos[0]
    return f"last step of an episode: done {bool(dones[0])}, TimeLimit.truncated {mark}, last observation {last}"


def value(env):
    torch.manual_seed(0)
    learner = PPO("MlpPolicy", env, gamma=DISCOUNT, n_steps=200, batch_size=200, learning_rate=3e-3, device="cpu")
    learner.learn(8000)
    return float(learner.policy.predict_values(torch.ones(1, 1)).detach())


expect(f"DummyVecEnv: {last_step(DummyVecEnv([Single]))}",
       "DummyVecEnv: last step of an episode: done True, TimeLimit.truncated True, last observation True")
expect(f"DummyVecEnv: value near 10: {abs(value(DummyVecEnv([Single])) - 10) < 1}", "DummyVecEnv: value near 10: True")
expect(f"SuperSuit: {last_step(bridge())}",
       "SuperSuit: last step of an episode: done True, TimeLimit.truncated None, last observation True")
expect(f"SuperSuit: value near 2.6: {abs(value(bridge()) - 2.6) < 0.5}", "SuperSuit: value near 2.6: True")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
