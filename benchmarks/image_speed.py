"""Training speed and memory on images: ppolab against Stable-Baselines3 and CleanRL, on Atari's Pong.

    python benchmarks/image_speed.py --cleanrl FOLDER_OF_A_CHECKOUT

All sides train the Nature network, shared by policy and value function, on four frames, with rollouts of 128 steps,
minibatches of 256, the same number of environments and epochs, and Adam. Stable-Baselines3 (SB3) steps ale-py in its
own Atari wrappers; CleanRL's script ppo_atari_envpool.py and ppolab step EnvPool. The peers run in virtual environments
of their own, made on first use. CleanRL's script is run as it stands in the checkout; it needs EnvPool 0.8 and gym.

Every measurement is a fresh process. Its speed is environment steps over wall-clock seconds, from the end of the first
iteration at or beyond the warm-up to the end of the last one. Its memory is the peak of the process, and the peak of
what it and its descendants held without the code of libraries, which is the files'. The sides alternate. Rows are added
to docs/results/image_speed.csv; the table that is printed shows medians of all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import peer_env
from processes import CORES, ROOT, run_training, version_text
from result_tables import append_rows, markdown, read_rows

TABLE = ROOT / "docs/results/image_speed.csv"
SIDES = ("ppolab", "ppolab compiled", "ppolab bf16", "sb3", "cleanrl")
CLEANRL = ["envpool==0.8.4", "gym==0.23.1", "tyro", "tensorboard", "numpy<2"]
SB3 = ["stable-baselines3", "ale-py", "opencv-python-headless"]
IDS = {"sb3": "PongNoFrameskip-v4"}
ITERATIONS, WARM_UP = 7, 2
OURS = (
    "experiment=atari", "logger=none", "eval_interval=0", "eval_episodes=1", "checkpoint_interval=0",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement; `own_mb` is the peak of memory that is no file's, where it was looked at."""

    side: str
    num_envs: int
    epochs: int
    steps_per_second: float
    peak_mb: float
    gradient_steps: int
    torch_threads: int
    load_before: float
    versions: str
    own_mb: float | None = None


def main() -> None:
    """Measure, store the rows, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["ppolab", "ppolab bf16", "sb3"])
    parser.add_argument("--cleanrl", type=Path, help="a checkout of CleanRL; measures its script, too")
    parser.add_argument("--peer-envs", type=Path, default=ROOT / "outputs" / "peers")
    arguments = parser.parse_args()
    sides = [*arguments.sides, *(["cleanrl"] if arguments.cleanrl else [])]
    for _ in range(arguments.repeats):
        for side in dict.fromkeys(sides):
            row = measured(side, arguments)
            append_rows(TABLE, Row, [row])
            own = "" if row.own_mb is None else f", without files {row.own_mb:,.0f} MB"
            told = f"{row.side}: {row.steps_per_second:,.0f} steps/s, {row.peak_mb:,.0f} MB{own}"
            print(told, file=sys.stderr, flush=True)
    print("\n".join(table(read_rows(TABLE, Row))))


def measured(side: str, arguments: argparse.Namespace) -> Row:
    """Measure one side in a fresh process."""
    batch = 128 * arguments.num_envs
    span = (ITERATIONS * batch, WARM_UP * batch)
    child = run_training(_program(side, arguments), IDS.get(side, "Pong-v5"), span, _settings(side, arguments))
    record = child.record
    speed = record["measured_steps"] / record["measured_seconds"]
    return Row(
        side, arguments.num_envs, arguments.epochs, speed, child.peak_mb,
        record["measured_gradient_steps"], record["torch_threads"], child.load, version_text(record["versions"]),
        child.own_mb,
    )  # fmt: skip


def _program(side: str, arguments: argparse.Namespace) -> tuple[str, str]:
    if side.startswith("ppolab"):
        return sys.executable, "ppolab_speed.py"
    wanted = [*(SB3 if side == "sb3" else CLEANRL), peer_env.torch_requirement()]
    python = peer_env.ready(arguments.peer_envs.absolute() / f"{side}_images", wanted)
    return str(python), f"{side}_images.py"


def _settings(side: str, arguments: argparse.Namespace) -> list[str]:
    if side.startswith("ppolab"):
        ours = [*OURS, f"num_envs={arguments.num_envs}", f"epochs={arguments.epochs}"]
        if side.endswith("compiled"):
            ours.append("compile=true")
        if side.endswith("bf16"):  # which a run of the usual length compiles
            ours += ["trainer.precision=bf16", "compile=true"]
        return ours
    theirs = ["--num-envs", str(arguments.num_envs), "--epochs", str(arguments.epochs), "--threads", str(CORES)]
    if side == "cleanrl":
        theirs += ["--script", str(arguments.cleanrl.absolute() / "cleanrl/ppo_atari_envpool.py")]
    return theirs


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table of medians; ratios are to ppolab, of what was measured with the same settings."""
    head = ("environments", "epochs", "side", "measurements", "steps/s", "of ppolab's", "MB", "of ppolab's")
    return markdown(head, _lines(rows), texts=3)


def _lines(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    for num_envs, epochs in sorted({(row.num_envs, row.epochs) for row in rows}):
        alike = [row for row in rows if (row.num_envs, row.epochs) == (num_envs, epochs)]
        medians = {
            side: (median(row.steps_per_second for row in same), median(row.peak_mb for row in same), len(same))
            for side in SIDES
            if (same := [row for row in alike if row.side == side])
        }
        ours = medians.get("ppolab")
        for side, (speed, memory, count) in medians.items():
            shares = (f"{speed / ours[0]:.2f}", f"{memory / ours[1]:.2f}") if ours else ("", "")
            yield (
                str(num_envs), str(epochs), side, str(count), f"{speed:,.0f}", shares[0], f"{memory:,.0f}", shares[1],
            )  # fmt: skip


if __name__ == "__main__":
    main()
