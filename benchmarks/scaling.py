"""How speed and memory change with environments, network, minibatch, rollout, path of the update, and a neighbour:

    python benchmarks/scaling.py envs
    python benchmarks/scaling.py width minibatch pair memory
    python benchmarks/scaling.py device
    python benchmarks/scaling.py path
    python benchmarks/scaling.py report

Every measurement is a fresh process of the real command line, measured like those of throughput.py: from the end of the
first iteration beyond the warm-up to the end of the last one. Each round measures every point once, in alternating
order; the tables hold medians over the rounds. Rows go to OUT/NAME.csv, which each measurement of that name makes
anew; `report` prints the tables of all files that are there, each with the command that makes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import scaling_report
from processes import CORES, ROOT, Child, ChildFailed, run_training, version_text
from result_tables import append_rows, read_rows
from scaling_report import Row

BATCH = 2048
NUM_ENVS = 32
COMMON = (
    "logger=none", "eval_interval=0", "eval_episodes=1", "target_kl=null", "compile=true", "trainer=cpu",
)  # fmt: skip
"""What all measurements share; otherwise the shipped settings. No early stopping: all updates are equally long."""


@dataclass(frozen=True)
class Point:
    """One column of a table: what is varied, the settings for it, steps and warm-up; `copies` run side by side."""

    value: str
    settings: tuple[str, ...]
    steps: int
    warmup: int
    copies: int = 1


def envs_points() -> list[Point]:
    """Environments 1 to 512; the batch stays 2048."""
    return [
        Point(str(count), (f"num_envs={count}", f"rollout_steps={BATCH // count}"), 16 * BATCH, 4 * BATCH)
        for count in (2**power for power in range(10))
    ]


def width_points() -> list[Point]:
    """Two hidden layers of 64 to 1024 units, actor and critic apart."""
    return [
        Point(str(width), (f"model.hidden_sizes=[{width},{width}]",), 8 * BATCH, 3 * BATCH)
        for width in (64, 128, 256, 512, 1024)
    ]


def minibatch_points() -> list[Point]:
    """Minibatches 64 to 4096 of a batch of 16,384, which every one of them divides."""
    batch = 16_384
    settings = (f"num_envs={NUM_ENVS}", f"rollout_steps={batch // NUM_ENVS}")
    return [
        Point(str(size), (*settings, f"minibatch_size={size}"), 6 * batch, 2 * batch)
        for size in (2**power for power in range(6, 13))
    ]


def pair_points() -> list[Point]:
    """One run with all cores, one with one thread for simulator and update, and two of these side by side."""
    steps, warmup = 40 * BATCH, 10 * BATCH
    single = ("env.num_threads=1", "trainer.threads=1")
    return [
        Point("one run, all cores", (), steps, warmup),
        Point("one run, one thread", single, steps, warmup),
        Point("two runs side by side, one thread each", single, steps, warmup, copies=2),
    ]


def memory_points() -> list[Point]:
    """Batches of 2048 to 262,144 steps from 32 environments: the statistics' rollout, and two iterations."""
    return [
        Point(str(batch), (f"num_envs={NUM_ENVS}", f"rollout_steps={batch // NUM_ENVS}", "epochs=2"), 3 * batch, batch)
        for batch in (2048, 8192, 32_768, 131_072, 262_144)
    ]


def device_points() -> list[Point]:
    """Networks and minibatches, each on the processor and on a GPU, which must be there."""
    return [
        Point(
            f"{width} {size} {device}",
            (f"model.hidden_sizes=[{width},{width}]", f"minibatch_size={size}", f"trainer.accelerator={device}"),
            5 * BATCH, 2 * BATCH,
        )
        for width, size in ((64, 64), (256, 64), (1024, 64), (1024, 512))
        for device in ("cpu", "gpu")
    ]  # fmt: skip


def path_points() -> list[Point]:
    """What computes the update: C++, PyTorch, or one after the other; the shipped network and batch, one thread."""
    steps, warmup = 5 * BATCH, 2 * BATCH
    unknown = "model.dropout=0.01"  # to the C++ code
    paths = {
        "C++: gradients and steps": (),
        "C++: gradients; PyTorch: steps of one vector": ("optimizer=rmsprop",),
        "C++: gradients; PyTorch: steps of each parameter": ("optimizer=adafactor",),
        "PyTorch, compiled": (unknown,),
        "PyTorch": (unknown, "compile=false"),
    }
    single = ("env.num_threads=1", "trainer.threads=1")
    return [Point(path, (*single, *settings), steps, warmup) for path, settings in paths.items()]


POINTS = {
    "path": path_points, "envs": envs_points, "width": width_points, "minibatch": minibatch_points, "pair": pair_points,
    "memory": memory_points, "device": device_points,
}  # fmt: skip


def main() -> None:
    """Measure what is asked for, or print the tables."""
    arguments = parse_arguments()
    for name in arguments.what:
        if name == "report":
            print(scaling_report.markdown({key: read_rows(arguments.out / f"{key}.csv", Row) for key in POINTS}))
        else:
            measure_all(name, arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*POINTS, "report"], help="what to measure, or report")
    parser.add_argument("--env", default="Hopper-v5", metavar="ID", help="environment id (Hopper-v5)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument("--points", nargs="+", metavar="VALUE", help="only these values, for a trial (all)")
    parser.add_argument("--override", action="append", default=[], help="a further setting of ppolab, repeatable")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results" / "performance",
        help="folder of the results (docs/results/performance)",
    )  # fmt: skip
    return parser.parse_args()


def measure_all(name: str, arguments: argparse.Namespace) -> None:
    """Measure one table, and store its rows as they come; exit code 1 if a measurement failed."""
    points = [point for point in POINTS[name]() if not arguments.points or point.value in arguments.points]
    if not points:
        raise SystemExit(f"{name}: has none of --points {' '.join(arguments.points)}")
    table = arguments.out / f"{name}.csv"
    if arguments.points and table.is_file():
        raise SystemExit(f"{table}: holds all values; give those of --points an --out of their own")
    table.unlink(missing_ok=True)
    failed = 0
    for repeat in range(arguments.repeats):
        for point in points if repeat % 2 == 0 else reversed(points):
            try:
                for row in measure(name, point, repeat, arguments):
                    append_rows(table, Row, [row])
                    print(scaling_report.told(row), file=sys.stderr, flush=True)
            except ChildFailed as error:
                failed += 1
                print(f"{name} {point.value}: {error}", file=sys.stderr, flush=True)
    if failed:
        raise SystemExit(f"{name}: {failed} measurements failed")


def measure(name: str, point: Point, repeat: int, arguments: argparse.Namespace) -> Iterator[Row]:
    """A point once: one row per process, of which `copies` start at the same time.

    Raises:
        ChildFailed: a process ended with an error.
    """
    with ThreadPoolExecutor(point.copies) as pool:
        seeds = [repeat * point.copies + copy for copy in range(point.copies)]
        futures = [pool.submit(train, point, seed, arguments) for seed in seeds]
        children = [future.result() for future in futures]
    command = ["python", "benchmarks/scaling.py", name, "--env", arguments.env, "--repeats", str(arguments.repeats)]
    command += ["--points", *arguments.points] if arguments.points else []
    for override in arguments.override:
        command += ["--override", override]
    for copy, child in enumerate(children):
        record = child.record
        seconds, steps = record["measured_seconds"], record["measured_steps"]
        yield Row(
            name=name, env=arguments.env, value=point.value, repeat=repeat, copy=copy, copies=point.copies,
            measured_steps=steps, measured_seconds=round(seconds, 3), steps_per_second=round(steps / seconds, 1),
            measured_gradient_steps=record["measured_gradient_steps"],
            cpu_seconds_per_million=round(1e6 * record["measured_cpu_seconds"] / steps, 1),
            peak_mb=round(child.peak_mb), load_before=round(child.load, 2), cores=CORES,
            settings=" ".join(point.settings), command=shlex.join(command), versions=version_text(record["versions"]),
        )  # fmt: skip


def train(point: Point, seed: int, arguments: argparse.Namespace) -> Child:
    """One process."""
    settings = [*COMMON, *point.settings, *arguments.override]
    program = (sys.executable, "ppolab_speed.py")
    return run_training(program, arguments.env, (point.steps, point.warmup), settings, seed=seed)


if __name__ == "__main__":
    main()
