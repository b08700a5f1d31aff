"""Train with ppolab's own command line and measure its steady speed. Run by throughput.py."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch, common_arguments, installed

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

DISTRIBUTIONS = ("torch", "pytorch-lightning", "numpy", "gymnasium", "mujoco", "envpool")


def main() -> None:
    """Run `src/train.py` in this process, with a mark after every training step."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("overrides", nargs="*", help="settings of ppolab, as for src/train.py")
    arguments = parser.parse_args()
    stopwatch = Stopwatch()
    watch_iterations(stopwatch)
    settings = [f"env.id={arguments.env}", f"seed={arguments.seed}", f"total_steps={arguments.steps}"]
    code = train([*settings, *arguments.overrides])
    if code:
        sys.exit(code)
    from ppolab import __version__

    stopwatch.write(arguments.out, arguments.warmup, {"ppolab": __version__, **installed(DISTRIBUTIONS)})


def watch_iterations(stopwatch: Stopwatch) -> None:
    """Mark the end of every `PPOModule.training_step`: before the evaluation that follows the last one."""
    from ppolab.module import PPOModule

    original = PPOModule.training_step

    @functools.wraps(original)
    def watched(self: PPOModule, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        stopwatch.mark(self.steps)
        return result

    PPOModule.training_step = watched  # type: ignore[method-assign]


def train(overrides: list[str]) -> int:
    """What `python src/train.py OVERRIDES` does; its exit code."""
    from ppolab.cli import train as command

    sys.argv = ["train.py", *overrides]
    try:
        command()
    except SystemExit as stop:
        return int(stop.code or 0)


if __name__ == "__main__":
    main()
