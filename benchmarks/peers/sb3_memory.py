"""Train with sb3-contrib's RecurrentPPO and measure its steady speed. Run by memory_speed.py in sb3-contrib's own
environment.

RecurrentPPO shuffles no sequences. Its batch is what one environment did after what another did, cut at a random place,
and a minibatch is the next so many transitions of that. Within a minibatch there is a sequence for every episode and
environment, of any length up to the rollout's, and all are padded to the longest.
"""

from __future__ import annotations

import torch
from sb3_contrib import RecurrentPPO
from sb3_speed import COMMON, Marker
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stopwatch import Stopwatch, common_arguments, installed
from torch import Tensor, nn

DISTRIBUTIONS = ("sb3-contrib", "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")


class HiddenLayers(BaseFeaturesExtractor):  # type: ignore[misc]
    """Tanh layers before the recurrent one."""

    def __init__(self, observation_space: object, sizes: list[int]) -> None:
        super().__init__(observation_space, features_dim=sizes[-1])
        inputs = [observation_space.shape[0], *sizes]  # type: ignore[attr-defined]
        pairs = zip(inputs, sizes, strict=False)
        self.layers = nn.Sequential(*(part for pair in pairs for part in (nn.Linear(*pair), nn.Tanh())))

    def forward(self, observations: Tensor) -> Tensor:
        result: Tensor = self.layers(observations)
        return result


def main() -> None:
    """Train with the shapes that memory_speed.py gives to all sides."""
    parser = common_arguments(__doc__ or "")
    for name in ("num-envs", "rollout-steps", "minibatch-size", "epochs", "memory-size", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stopwatch = Stopwatch()
    envs = make_vec_env(arguments.env, n_envs=arguments.num_envs, seed=arguments.seed, vec_env_cls=DummyVecEnv)
    network = {
        "features_extractor_class": HiddenLayers, "features_extractor_kwargs": {"sizes": arguments.hidden_sizes},
        "share_features_extractor": False, "net_arch": [], "lstm_hidden_size": arguments.memory_size,
        "enable_critic_lstm": True,
    }  # fmt: skip
    model = RecurrentPPO(
        "MlpLstmPolicy", VecNormalize(envs), n_steps=arguments.rollout_steps, batch_size=arguments.minibatch_size,
        n_epochs=arguments.epochs, seed=arguments.seed, policy_kwargs=network, **COMMON,
    )  # fmt: skip
    model.learn(arguments.steps, callback=Marker(stopwatch))
    stopwatch.write(arguments.out, arguments.warmup, installed(DISTRIBUTIONS))
    envs.close()


if __name__ == "__main__":
    main()
