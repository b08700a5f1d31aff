"""Train with Stable-Baselines3's PPO and measure its steady speed. Run by throughput.py in SB3's own environment."""

from __future__ import annotations

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from stopwatch import Stopwatch, common_arguments, installed

DISTRIBUTIONS = ("stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")
BATCH = 2048
COMMON = {
    "learning_rate": lambda remaining: 3e-4 * remaining, "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.2,
    "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5, "target_kl": None, "device": "cpu", "verbose": 0,
}  # fmt: skip
"""Settings of every measured PPO of this family, like ppolab's."""


class Marker(BaseCallback):  # type: ignore[misc]
    """Marks the end of every iteration: where the next rollout starts, and where the training ends."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self._stopwatch = stopwatch

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self._stopwatch.mark(self.num_timesteps)

    def _on_training_end(self) -> None:
        self._stopwatch.mark(self.num_timesteps)


def main() -> None:
    """The same algorithm settings as ppolab's, over the asked kind and number of environments."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("--num-envs", type=int, default=8, help="environments")
    parser.add_argument("--vec-env", choices=("dummy", "subproc"), default="dummy", help="in this process or in others")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stopwatch = Stopwatch()
    kind = SubprocVecEnv if arguments.vec_env == "subproc" else DummyVecEnv
    envs = make_vec_env(arguments.env, n_envs=arguments.num_envs, seed=arguments.seed, vec_env_cls=kind)
    model = learner(VecNormalize(envs), arguments.num_envs, arguments.seed)
    model.learn(arguments.steps, callback=Marker(stopwatch))
    stopwatch.write(arguments.out, arguments.warmup, installed(DISTRIBUTIONS))
    model.env.close()


def learner(envs: VecNormalize, num_envs: int, seed: int) -> PPO:
    """PPO with a batch of 2048, minibatches of 64, 10 epochs and 64-64 tanh separate networks."""
    return PPO(
        "MlpPolicy",
        envs,
        n_steps=BATCH // num_envs,
        batch_size=64,
        n_epochs=10,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh},
        seed=seed,
        **COMMON,
    )


if __name__ == "__main__":
    main()
