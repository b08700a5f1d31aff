"""Train with ppolab's own command line and write down return against wall clock. Run by time_to_return.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from curve import Curve
from ppolab_command import DISTRIBUTIONS, after_iterations, before_first_step, train
from stopwatch import installed


def main() -> None:
    """Run `src/train.py` in this process, with a point of the curve after every training step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the curve")
    parser.add_argument("overrides", nargs="*", help="settings of ppolab, as for src/train.py")
    arguments = parser.parse_args()
    curve = Curve()
    before_first_step(curve.start)
    after_iterations(
        lambda module: curve.add(module.steps, [episode.total_reward for episode in module.recent_episodes])
    )
    code = train(arguments.overrides)
    if code:
        sys.exit(code)
    from ppolab import __version__

    curve.write(arguments.out, {"ppolab": __version__, **installed(DISTRIBUTIONS)})


if __name__ == "__main__":
    main()
