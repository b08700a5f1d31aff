"""Train with ppolab's own command line and measure its steady speed. Run by throughput.py and scaling.py."""

from __future__ import annotations

import sys

from ppolab_command import DISTRIBUTIONS, after_iterations, import_as_the_command, train

import_as_the_command()  # before the stopwatch, which imports all of PyTorch
from stopwatch import Stopwatch, common_arguments, installed, optimizer_steps  # noqa: E402


def main() -> None:
    """Run `src/train.py` in this process, with a mark after every training step."""
    parser = common_arguments(__doc__ or "")
    parser.add_argument("overrides", nargs="*", help="settings of ppolab, as for src/train.py")
    arguments = parser.parse_args()
    stopwatch = Stopwatch()
    after_iterations(lambda module: stopwatch.mark(module.steps, optimizer_steps(module.optimizer)))
    settings = [f"env.id={arguments.env}", f"seed={arguments.seed}", f"total_steps={arguments.steps}"]
    code = train([*settings, *arguments.overrides])
    if code:
        sys.exit(code)
    from ppolab import __version__

    stopwatch.write(arguments.out, arguments.warmup, {"ppolab": __version__, **installed(DISTRIBUTIONS)})


if __name__ == "__main__":
    main()
