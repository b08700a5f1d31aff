"""Train with Stable-Baselines3's PPO and write down return against wall clock. Run by time_to_return.py."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from curve import WINDOW, Curve
from sb3_settings import settings_of
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from stopwatch import installed

DISTRIBUTIONS = ("stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")


class Recorder(BaseCallback):  # type: ignore[misc]
    """A point of the curve at the end of every rollout; ends the training beyond `threshold`, or `seconds`."""

    def __init__(self, curve: Curve, threshold: float, seconds: float) -> None:
        super().__init__()
        self._curve = curve
        self._threshold = threshold
        self._seconds = seconds
        self._deadline = math.inf
        self._ended = False

    def _on_training_start(self) -> None:
        self._curve.start()
        self._deadline = time.monotonic() + self._seconds

    def _on_rollout_end(self) -> None:
        returns = [float(episode["r"]) for episode in self.model.ep_info_buffer]
        self._curve.add(self.num_timesteps, returns)
        reached = len(returns) >= WINDOW and sum(returns) / len(returns) >= self._threshold
        self._ended = reached or time.monotonic() >= self._deadline

    def _on_step(self) -> bool:
        return not self._ended


def main() -> None:
    """Train as `--settings` says, on one torch thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", required=True, help="environment id")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--steps", type=int, required=True, help="environment steps to train at most")
    parser.add_argument("--stop-at", type=float, default=math.inf, help="return at which to stop")
    parser.add_argument("--stop-after", type=float, default=math.inf, help="seconds of training after which to stop")
    parser.add_argument("--settings", choices=("default", "zoo"), default="default", help="see sb3_settings.py")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the curve")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = settings_of(arguments.settings, arguments.env)
    envs = make_vec_env(arguments.env, n_envs=settings.num_envs, seed=arguments.seed)
    if settings.normalize:  # as the zoo does, with the algorithm's own discount; the episodes' returns stay unscaled
        envs = VecNormalize(envs, gamma=settings.arguments.get("gamma", 0.99))
    model = PPO(
        "MlpPolicy", envs, seed=arguments.seed, device="cpu", stats_window_size=WINDOW, **settings.arguments
    )  # fmt: skip
    curve = Curve()
    model.learn(arguments.steps, callback=Recorder(curve, arguments.stop_at, arguments.stop_after))
    curve.write(arguments.out, installed(DISTRIBUTIONS))
    model.env.close()


if __name__ == "__main__":
    main()
