"""Run CleanRL's script for Atari in EnvPool as it stands, and measure its steady speed. Run by image_speed.py.

The script reports its speed once per iteration, which is where the stopwatch marks.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import torch
from stopwatch import Stopwatch, common_arguments, installed
from torch.utils import tensorboard

DISTRIBUTIONS = ("torch", "numpy", "gym", "envpool")
MINIBATCH = 256


def main() -> None:
    """Run the script with the batch, minibatches and epochs of image_speed.py."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True, help="threads of torch")
    parser.add_argument("--script", required=True, help="cleanrl/ppo_atari_envpool.py of a checkout")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stopwatch = Stopwatch()

    class Writer(tensorboard.SummaryWriter):  # type: ignore[misc]
        """Mark where the script reports its speed."""

        def add_scalar(self, tag: str, value: Any, global_step: int | None = None, **further: Any) -> None:
            super().add_scalar(tag, value, global_step, **further)
            if tag == "charts/SPS":
                assert global_step is not None
                stopwatch.mark(global_step)

    tensorboard.SummaryWriter = Writer  # type: ignore[misc]
    sys.argv = [
        arguments.script, "--env-id", arguments.env, "--seed", str(arguments.seed), "--no-cuda",
        "--total-timesteps", str(arguments.steps), "--num-envs", str(arguments.num_envs), "--num-steps", "128",
        "--num-minibatches", str(arguments.num_envs * 128 // MINIBATCH), "--update-epochs", str(arguments.epochs),
    ]  # fmt: skip
    runpy.run_path(arguments.script, run_name="__main__")
    stopwatch.write(arguments.out, arguments.warmup, installed(DISTRIBUTIONS))


if __name__ == "__main__":
    main()
