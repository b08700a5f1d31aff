"""Train Atari's Pong with Stable-Baselines3's PPO in its own Atari wrappers, and measure its steady speed.

Run by image_speed.py in SB3's own environment, with the ROM and the simulator of ale-py.
"""

from __future__ import annotations

import ale_py
import gymnasium
import torch
from sb3_speed import Marker
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack
from stopwatch import Stopwatch, common_arguments, installed

DISTRIBUTIONS = ("stable-baselines3", "torch", "numpy", "gymnasium", "ale-py")


def main() -> None:
    """Train with the batch, minibatches and epochs of image_speed.py."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True, help="threads of torch")
    parser.add_argument("--vec-env", choices=("dummy", "subproc"), default="dummy", help="in this process or in others")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gymnasium.register_envs(ale_py)
    stopwatch = Stopwatch()
    kind = SubprocVecEnv if arguments.vec_env == "subproc" else DummyVecEnv
    envs = make_atari_env(arguments.env, n_envs=arguments.num_envs, seed=arguments.seed, vec_env_cls=kind)
    model = PPO(
        "CnnPolicy", VecFrameStack(envs, 4), learning_rate=2.5e-4, n_steps=128, batch_size=256,
        n_epochs=arguments.epochs, clip_range=0.1, ent_coef=0.01, device="cpu", seed=arguments.seed,
    )  # fmt: skip
    model.learn(arguments.steps, callback=Marker(stopwatch))
    stopwatch.write(arguments.out, arguments.warmup, installed(DISTRIBUTIONS))
    envs.close()


if __name__ == "__main__":
    main()
