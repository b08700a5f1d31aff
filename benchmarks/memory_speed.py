"""Training speed with memory: ppolab against RecurrentPPO of sb3-contrib, and against ppolab's own MLP.

    python benchmarks/memory_speed.py --rounds 3

Two tasks: CartPole of which no velocities are seen (docs/examples/without_velocities.py), and Hopper-v5. All
sides have hidden layers of 64 and 64 tanh units, then, but for ppolab without memory, one recurrent layer of 64, all of
it apart for policy and value function; 16 environments, rollouts of 128 steps, minibatches of 256, 10 epochs, scaled
observations and rewards, advantages normalized per minibatch, Adam at 3e-4 falling to 0, no KL early stopping.
RecurrentPPO trains on whole rollouts of an environment, cut where an episode or a minibatch ends (see
peers/sb3_memory.py); ppolab has sequences of 128 steps, a whole rollout, too. RecurrentPPO steps Gymnasium in one
process; ppolab steps CartPole in Gymnasium, and Hopper in EnvPool. RecurrentPPO has a virtual environment of its own,
made on first use, and runs with one thread of torch and with two; ratios are to the faster.

Every measurement is a fresh process, as in image_speed.py, and the sides alternate. Gradient steps are counted at the
optimizers; the program fails where sides made different numbers of them per iteration. Rows are added to
docs/results/memory_speed.csv; the table that is printed shows medians of all of them. Delete the file to begin anew.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import peer_env
from processes import ROOT, run_training, version_text
from result_tables import append_rows, markdown, read_rows


@dataclass(frozen=True)
class Side:
    """Who trains how.

    `iterations`: so many that it takes some seconds; a quarter of them is the warm-up. `memory`: of ppolab. `threads`:
    of torch, in RecurrentPPO; 0 for ppolab.
    """

    iterations: int
    memory: str = ""
    threads: int = 0


TABLE = ROOT / "docs/results/memory_speed.csv"
TASKS = {
    "cartpole": ("CartPole without velocities", "without_velocities:CartPoleWithoutVelocities-v0"),
    "hopper": ("Hopper-v5", "Hopper-v5"),
}
PLAIN = "ppolab, no memory"
SIDES = {
    "ppolab, lstm": Side(12, memory="lstm"), "ppolab, gru": Side(12, memory="gru"), PLAIN: Side(32, memory="none"),
    "RecurrentPPO, 1 thread": Side(4, threads=1), "RecurrentPPO, 2 threads": Side(4, threads=2),
}  # fmt: skip
NUM_ENVS, STEPS, MINIBATCH, EPOCHS, SIZE = 16, 128, 256, 10, 64
OURS = (
    "logger=none", "eval_interval=0", "eval_episodes=1", "checkpoint_interval=0", "compile=true", "trainer=cpu",
    f"num_envs={NUM_ENVS}", f"rollout_steps={STEPS}", f"sequence_length={STEPS}", f"minibatch_size={MINIBATCH}",
    f"epochs={EPOCHS}", f"model.hidden_sizes=[{SIZE},{SIZE}]", f"model.memory_size={SIZE}", "model.activation=tanh",
    "model.trunk=separate", "optimizer.lr=3e-4", "normalize_advantages=true", "target_kl=null",
)  # fmt: skip
THEIRS = (
    "--num-envs", str(NUM_ENVS), "--rollout-steps", str(STEPS), "--minibatch-size", str(MINIBATCH),
    "--epochs", str(EPOCHS), "--hidden-sizes", str(SIZE), str(SIZE), "--memory-size", str(SIZE),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement; `iterations` and `gradient_steps` are those of the measured span."""

    task: str
    side: str
    steps_per_second: float
    measured_steps: int
    iterations: int
    gradient_steps: int
    cpu_seconds_per_million: float
    peak_mb: float
    torch_threads: int
    load_before: float
    versions: str


def main() -> None:
    """Measure, store the rows, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every side; 0 prints the table (3)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--peer-envs", type=Path, default=ROOT / "outputs" / "peers")
    arguments = parser.parse_args()
    for index in range(arguments.rounds):
        for task in arguments.tasks:
            for side in arguments.sides if index % 2 == 0 else reversed(arguments.sides):
                row = measured(task, side, arguments.peer_envs.absolute())
                append_rows(TABLE, Row, [row])
                print(f"{row.task}, {row.side}: {row.steps_per_second:,.0f} steps/s", file=sys.stderr, flush=True)
    rows = read_rows(TABLE, Row)
    print("\n".join(table(rows)))
    if problem := differing_work(rows):
        raise SystemExit(problem)


def measured(task: str, name: str, peer_envs: Path) -> Row:
    """Measure one side in a fresh process."""
    side, batch = SIDES[name], NUM_ENVS * STEPS
    places = [str(ROOT / "docs/examples"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(places)}
    if side.threads:
        python = peer_env.ready(peer_envs / "sb3_contrib", peer_env.requirements("sb3_contrib"))
        program, settings = (str(python), "sb3_memory.py"), (*THEIRS, "--threads", str(side.threads))
        variables["OMP_NUM_THREADS"] = str(side.threads)
    else:
        program, settings = (sys.executable, "ppolab_speed.py"), (*OURS, f"model.memory={side.memory}")
    span = (side.iterations * batch, side.iterations // 4 * batch)
    child = run_training(program, TASKS[task][1], span, settings, environment=variables)
    record = child.record
    speed = record["measured_steps"] / record["measured_seconds"]
    return Row(
        task, name, round(speed, 1), record["measured_steps"], record["measured_iterations"],
        record["measured_gradient_steps"], round(1e6 * record["measured_cpu_seconds"] / record["measured_steps"], 1),
        round(child.peak_mb), record["torch_threads"], round(child.load, 2), version_text(record["versions"]),
    )  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table of medians, with ratios of steps/s to the faster RecurrentPPO and to no memory."""
    head = (
        "task", "side", "measurements", "steps/s", "times as fast as RecurrentPPO", "times slower than without memory",
        "CPU s per million steps", "gradient steps per iteration", "MB",
    )  # fmt: skip
    return markdown(head, _lines(rows), texts=2)


def _lines(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    for task, (name, _) in TASKS.items():
        of_task = [row for row in rows if row.task == task]
        sides = {side: same for side in SIDES if (same := [row for row in of_task if row.side == side])}
        speeds = {side: median(row.steps_per_second for row in same) for side, same in sides.items()}
        peer = max((speed for side, speed in speeds.items() if SIDES[side].threads), default=None)
        plain = speeds.get(PLAIN)
        for side, same in sides.items():
            speed = speeds[side]
            steps = sorted({row.gradient_steps / row.iterations for row in same})
            yield (
                name, side, str(len(same)), f"{speed:,.0f}", f"{speed / peer:.1f}" if peer else "",
                f"{plain / speed:.2f}" if plain else "", f"{median(row.cpu_seconds_per_million for row in same):,.0f}",
                " or ".join(f"{each:g}" for each in steps), f"{median(row.peak_mb for row in same):,.0f}",
            )  # fmt: skip


def differing_work(rows: Sequence[Row]) -> str | None:
    """Return what is wrong if sides made different numbers of gradient steps per iteration."""
    found = sorted({row.gradient_steps / row.iterations for row in rows})
    if len(found) <= 1:
        return None
    return f"not the same work: {' or '.join(f'{each:g}' for each in found)} gradient steps per iteration"


if __name__ == "__main__":
    main()
