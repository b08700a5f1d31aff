"""Where the time of an update on images goes: Atari's Pong, the Nature network, minibatches of 256.

    python benchmarks/image_profile.py

A training runs in a fresh process. PyTorch's profiler watches its sixth update; in bfloat16 it is compiled by then, as
in runs of the usual length. The table shows each operator's own time, and the share of those that multiply matrices or
convolve.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import HERE, ROOT, run_child
from result_tables import markdown

sys.path.append(str(HERE / "peers"))

PROFILED = 6
SETTINGS = (
    "experiment=atari", "total_steps=8192", "logger=none", "eval_interval=0", "eval_episodes=1", "progress=off",
)  # fmt: skip
KERNELS = ("conv", "aten::mm", "aten::addmm", "matrix_product", "linear_pointwise")
"""Parts of the names of operators that compute products."""
LINES = 12


def main() -> None:
    """Measure in a fresh process, print the table and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        arguments.inside.write_text(json.dumps(profiled(arguments.precision)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--precision", arguments.precision, "--inside", f"{folder}/result.json"]
        record = run_child(command, Path(folder)).record
    text = "\n".join(table(record["operators"])) + "\n"
    print(text)
    (ROOT / f"docs/results/image_profile_{arguments.precision}.md").write_text(text)


def profiled(precision: str) -> dict[str, Any]:
    """Train in this process; return (name, own microseconds) of every operator of the profiled update."""
    from ppolab_command import train
    from torch.profiler import ProfilerActivity, profile

    from ppolab.learning.learner import Learner

    update, seen = Learner.update, []

    def watched(learner: Learner, *arguments: Any) -> Any:
        seen.append(None)
        if len(seen) != PROFILED:
            return update(learner, *arguments)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            stats = update(learner, *arguments)
        operators.extend((event.key, event.self_cpu_time_total) for event in found.key_averages())
        return stats

    operators: list[tuple[str, float]] = []
    Learner.update = watched  # type: ignore[method-assign, assignment]
    compiled = ["compile=true"] if precision == "bf16" else []
    code = train([*SETTINGS, f"trainer.precision={precision}", *compiled])
    if code:
        sys.exit(code)
    return {"operators": operators}


def table(operators: list[tuple[str, float]]) -> list[str]:
    """Return the lines of a table of the slowest operators, and of the share of products."""
    whole = sum(own for _, own in operators)
    products = sum(own for name, own in operators if any(part in name for part in KERNELS))
    slowest = sorted(operators, key=lambda each: -each[1])[:LINES]
    rows = [(name.strip(" #"), f"{own / 1000:,.1f}", f"{own / whole:.1%}") for name, own in slowest]
    rows.append(("products of matrices and convolutions", f"{products / 1000:,.1f}", f"{products / whole:.1%}"))
    rows.append(("all of the update", f"{whole / 1000:,.1f}", "100.0%"))
    return markdown(("operator", "own ms", "share"), rows)


if __name__ == "__main__":
    main()
