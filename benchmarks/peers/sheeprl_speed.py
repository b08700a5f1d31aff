"""Train with sheeprl's own command line and measure its steady speed. Run by throughput.py in sheeprl's environment.

Its logging, checkpoints, videos and final test are off, and its buffer is in memory. It scales neither observations nor
rewards: that work it does not do. For continuous actions its actor also predicts the standard deviations.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from stopwatch import Stopwatch, common_arguments, installed

DISTRIBUTIONS = ("sheeprl", "lightning", "torch", "numpy", "gymnasium", "mujoco")
BATCH = 2048
SETTINGS = (
    "exp=ppo_mujoco", "algo.per_rank_batch_size=64", "algo.update_epochs=10", "algo.max_grad_norm=0.5",
    "algo.normalize_advantages=True", "algo.anneal_lr=True", "algo.optimizer.lr=3e-4", "algo.actor.dense_units=64",
    "algo.actor.mlp_layers=2", "algo.critic.dense_units=64", "algo.critic.mlp_layers=2", "algo.encoder.mlp_layers=0",
    "algo.run_test=False", "env.capture_video=False", "env.wrapper.render_mode=null", "buffer.memmap=False",
    "metric.log_level=0", "metric.disable_timer=True", "checkpoint.every=0", "checkpoint.save_last=False",
    "fabric.accelerator=cpu", "fabric.devices=1",
)  # fmt: skip
"""Its experiment for MuJoCo, made like everybody else's here, without its extras."""


def main() -> None:
    """The same algorithm settings as ppolab's, over the asked kind and number of environments."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("--num-envs", type=int, default=8, help="environments")
    parser.add_argument("--vec-env", choices=("sync", "async"), default="sync", help="in this process or in others")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stopwatch = Stopwatch()
    watch_updates(stopwatch)
    settings = [
        f"env.id={arguments.env}", f"env.num_envs={arguments.num_envs}", f"env.sync_env={arguments.vec_env == 'sync'}",
        f"algo.rollout_steps={BATCH // arguments.num_envs}", f"algo.total_steps={arguments.steps}",
        f"seed={arguments.seed}", f"num_threads={arguments.threads}",
    ]  # fmt: skip
    train([*SETTINGS, *settings])
    stopwatch.write(arguments.out, arguments.warmup, installed(DISTRIBUTIONS))


def watch_updates(stopwatch: Stopwatch) -> None:
    """Mark the end of every update: with the extras off, nothing else follows in an iteration."""
    import sheeprl.algos.ppo.ppo as algorithm

    original = algorithm.train

    @functools.wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        stopwatch.mark((len(stopwatch.marks) + 1) * BATCH)
        return result

    algorithm.train = watched


def train(overrides: list[str]) -> None:
    """What `sheeprl OVERRIDES` does."""
    from sheeprl.cli import run

    sys.argv = ["sheeprl", *overrides]
    run()


if __name__ == "__main__":
    main()
