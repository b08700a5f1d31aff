"""All measurements of mujoco-warp's worlds and of training on one GPU, in less than six minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --tiny   # every part on a processor, at sizes that say nothing, to try the program
    python benchmarks/gpu.py --parts simulator --worlds 1024 16384

Each part is a process of its own with a limit of its own, so a part that fails or hangs costs its own rows only. A row
is in the table as soon as it is measured. The parts, in this order:

- check: what is installed, the distance to Gymnasium after steps from the same states, and whether worlds that were
  stored and restored go on bit by bit;
- simulator: steps per second of the worlds alone, with the share of the time in which the processor was launching, and
  the memory of the device;
- training: steps per second of whole trainings with `experiment=gpu`, beside EnvPool's on this machine's processors;
- gradient: milliseconds of a gradient step of that training;
- epochs: milliseconds of a gradient step within whole epochs, launched step by step, as graphs of many steps, and as
  such graphs for eight seeds at once;
- returns: seconds until the mean training return of Hopper and Ant passes a threshold;
- images: gradient steps of the Nature network in 32 and in 16 bits.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkout_run import SHARED
from gpu_bench import FULL, TINY, Bench, Row, Sizes, timed
from gpu_networks import epochs, gradient, images
from processes import ROOT
from result_tables import markdown, read_rows

TABLE = ROOT / "docs/results/gpu.csv"
LIMITS = {"check": 90, "simulator": 75, "training": 45, "gradient": 10, "epochs": 40, "returns": 84, "images": 14}
"""Seconds that a part may take, by its name, in the order of the parts."""
TINY_LIMIT = 1200
RETURNS = {"Hopper-v5": (2000.0, 35), "Ant-v5": (3000.0, 45)}
"""Threshold of the mean training return, and seconds for the training with its start, by task."""


def main() -> None:
    """Run the parts, each in a process of its own; print a table of all rows of this device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=tuple(LIMITS), default=list(LIMITS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--worlds", nargs="+", type=int)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--inside", choices=tuple(LIMITS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        PARTS[arguments.inside](bench_of(arguments))
        return
    failed = [part for part in arguments.parts if not succeeded(part, arguments)]
    rows = read_rows(arguments.table, Row)
    print("\n".join(table(rows)))
    if failed:
        sys.exit(f"these parts failed: {', '.join(failed)}")


def bench_of(arguments: argparse.Namespace) -> Bench:
    """Return what the arguments ask for."""
    import torch

    sizes = TINY if arguments.tiny else FULL
    chosen = {"tasks": tuple(arguments.tasks or sizes.tasks), "worlds": tuple(arguments.worlds or sizes.worlds)}
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.tiny else "cpu")
    return Bench(device, Sizes(**{**asdict(sizes), **chosen}), arguments.table.resolve())


def succeeded(part: str, arguments: argparse.Namespace) -> bool:
    """Run one part in a process of its own; return whether it ended well within its limit."""
    command = [sys.executable, __file__, "--inside", part, "--table", str(arguments.table.resolve())]
    command += ["--tiny"] if arguments.tiny else []
    for name in ("tasks", "worlds"):
        given = getattr(arguments, name)
        command += [f"--{name}", *map(str, given)] if given else []
    started = time.monotonic()
    limit = TINY_LIMIT if arguments.tiny else LIMITS[part]
    try:
        code = run_in_group(command, limit)
    except subprocess.TimeoutExpired:
        print(f"{part}: was ended after its {limit} s", flush=True)
        return False
    print(f"{part}: {'done' if code == 0 else f'failed with exit code {code}'} in {time.monotonic() - started:.0f} s")
    return code == 0


def run_in_group(command: Sequence[str], limit: float) -> int:
    """Return the exit code; whatever ends the wait, the trainings that the command has begun are ended with it.

    Else they would go on beside the next parts, and slow them down.

    Raises:
        subprocess.TimeoutExpired: it took more than `limit` seconds.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(limit)
    finally:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of all rows."""
    cells = [
        (row.part, row.task, f"{row.worlds:,}" if row.worlds else "", row.what, f"{row.value:,}", row.unit, row.device)
        for row in rows
    ]
    yield from markdown(("part", "task", "worlds", "what", "value", "unit", "device"), cells)


# --- worlds ----------------------------------------------------------------------------------------------------------


@contextmanager
def made_worlds(bench: Bench, task: str, count: int) -> Iterator[Any]:
    """Make the environments of a training with so many worlds."""
    from ppolab.config.schema import EnvConfig
    from ppolab.envs.factory import make_vector_env

    env = make_vector_env(EnvConfig(id=task, backend="warp"), list(range(count)), "warp", bench.device)
    try:
        yield env
    finally:
        env.close()


def check(bench: Bench) -> None:
    """Compare worlds with Gymnasium's environments, and with themselves after a restore."""
    for task in bench.sizes.tasks[:1] + bench.sizes.tasks[2:3]:
        started = time.perf_counter()
        with made_worlds(bench, task, 8) as env:
            bench.add("check", "made, kernels compiled", time.perf_counter() - started, "s", task, 8)
            bench.add("check", "median distance to Gymnasium", distance(env, task), "", task, 8)
            bench.add("check", "restored worlds go on bit by bit", float(goes_on(env)), "", task, 8)


def distance(env: Any, task: str) -> float:
    """Return the median over steps of the largest relative difference of an observation or reward."""
    import gymnasium
    import numpy as np

    peers: list[Any] = [gymnasium.make(task, disable_env_checker=True).unwrapped for _ in range(env.num_envs)]
    for index, peer in enumerate(peers):
        peer.model.opt.solver = 2  # Newton's, which mujoco-warp has
        peer.reset(seed=index)
    env.reset()
    found, rng = [], np.random.default_rng(0)
    for _ in range(20):
        stored = env.state()["environments"][0]["worlds"]
        for index, peer in enumerate(peers):
            peer.data.qpos[:], peer.data.qvel[:] = stored["qpos"][index], stored["qvel"][index]
        actions = rng.uniform(-1, 1, (env.num_envs, *env.action_space.shape)).astype(np.float32)
        step = env.step(actions)
        low, high = env.action_space.low, env.action_space.high
        for index, peer in enumerate(peers):
            if step.valid[index]:
                seen, reward, *_ = peer.step(low + (actions[index] + 1) / 2 * (high - low))
                ours = np.append(step.observations[index], step.rewards[index])
                theirs = np.append(seen, reward)
                found.append((np.abs(ours - theirs) / (1 + np.abs(theirs))).max())
    return float(np.median(found))


def goes_on(env: Any) -> bool:
    """Return whether ten steps after a restore are those that were taken before it."""
    import numpy as np

    actions = np.random.default_rng(1).normal(size=(10, env.num_envs, *env.action_space.shape)).astype(np.float32)
    state = env.state()
    first = [env.step(each).observations for each in actions]
    env.restore(state)
    return all(np.array_equal(env.step(each).observations, seen) for each, seen in zip(actions, first, strict=True))


def simulator(bench: Bench) -> None:
    """Time the worlds alone: random actions, nothing comes back from the device."""
    import torch

    for task in bench.sizes.tasks:
        for count in bench.sizes.worlds:
            before = free_memory(bench)
            with made_worlds(bench, task, count) as env:
                worlds = env.worlds
                worlds.reset()
                actions = torch.rand(count, *env.action_space.shape, device=bench.device) * 0.8 - 0.4
                taken, seconds, launching = timed(bench, lambda now=actions, worlds=worlds: worlds.step(now))
                bench.add("simulator", "steps", taken * count / seconds, "steps/s", task, count)
                bench.add("simulator", "share of launching", launching / seconds, "", task, count)
                if bench.device.type == "cuda":
                    used = (before - free_memory(bench)) / 2**20
                    bench.add("simulator", "memory", used, "MiB", task, count)


def free_memory(bench: Bench) -> int:
    """Return the device's free bytes; 0 on a processor."""
    import torch

    if bench.device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(bench.device)[0])


# --- trainings -------------------------------------------------------------------------------------------------------


def trained(bench: Bench, settings: Sequence[str], steps: int, limit: float | None = None) -> list[Mapping[str, str]]:
    """Train in a fresh process, at most so many seconds; return the rows of its metrics that iterations wrote."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "src/train.py"), *SHARED, *bench.sizes.training, *settings]
        command += [f"total_steps={steps}", f"hydra.run.dir={folder}/run", "checkpoint_interval=0"]
        with (Path(folder) / "output.txt").open("w+") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = 0
            output.seek(0)
            if code:
                raise SystemExit(f"{' '.join(settings)}: exit code {code}\n{output.read()}")
        metrics = Path(folder) / "run/metrics.csv"
        if not metrics.exists():
            return []
        with metrics.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["time/update"]]


def median_of(rows: Sequence[Mapping[str, str]], name: str) -> float:
    """Return the median of a metric without the first rows, in which things are compiled."""
    values = sorted(float(row[name]) for row in rows[len(rows) // 3 :])
    return values[len(values) // 2]


def training(bench: Bench) -> None:
    """Time trainings of Hopper on the device, and of EnvPool on this machine's processors."""
    count = bench.sizes.training_worlds
    for what, settings in {
        "warp": [f"num_envs={count}"],
        "EnvPool": [
            "env.backend=envpool", "trainer=cpu", "num_envs=32", "rollout_steps=64", "minibatch_size=64", "epochs=10",
            "optimizer.lr=6e-4", "target_kl=0.02", "exploration.noise_color=0",
        ],
    }.items():  # fmt: skip
        steps = bench.sizes.training_steps if what == "warp" else bench.sizes.training_steps // 10
        rows = trained(bench, settings, max(steps, 6144) if what == "EnvPool" else steps)
        worlds = count if what == "warp" else 32
        for name, unit in {"steps_per_second": "steps/s", "rollout": "s", "update": "s"}.items():
            value = median_of(rows, f"time/{name}")
            bench.add("training", f"{what}, {name.replace('_', ' ')}", value, unit, "Hopper-v5", worlds)
        if what == "warp":
            bench.add(
                "training", "gradient step", 1000 * gradient_seconds(rows, settings, bench), "ms", "Hopper-v5", worlds
            )


def gradient_seconds(rows: Sequence[Mapping[str, str]], settings: Sequence[str], bench: Bench) -> float:
    """Return the median seconds of a gradient step: what an update took over the minibatches of its epochs."""
    import ppolab

    config = ppolab.compose([*bench.sizes.training, *settings])
    minibatches = config.num_envs * config.rollout_steps / config.minibatch_size
    late = rows[len(rows) // 3 :]
    each = sorted(float(row["time/update"]) / (float(row["policy/epochs"]) * minibatches) for row in late)
    return each[len(each) // 2]


def returns(bench: Bench) -> None:
    """Train until the mean return has passed the threshold; the time is of iterations, without the start."""
    import ppolab

    count = ppolab.compose([*bench.sizes.training]).num_envs
    for task, (threshold, most) in RETURNS.items():
        limit = most if bench.device.type == "cuda" else None
        rows = trained(bench, [f"env.id={task}"], bench.sizes.returns_steps, limit)
        told = [(float(row["train/return"]), row) for row in rows if row["train/return"]]
        passed = next((row for value, row in told if value >= threshold), None)
        if passed is not None:
            bench.add("returns", f"seconds until {threshold:,.0f}", float(passed["time/total"]), "s", task, count)
            bench.add("returns", f"steps until {threshold:,.0f}", float(passed["step"]), "steps", task, count)
        if told:
            value, row = told[-1]
            bench.add("returns", "last return", value, "", task, count)
            bench.add("returns", "after", float(row["time/total"]), "s", task, count)
            bench.add("returns", "after", float(row["step"]), "steps", task, count)


PARTS: dict[str, Callable[[Bench], None]] = {
    "check": check, "simulator": simulator, "training": training, "gradient": gradient, "epochs": epochs,
    "returns": returns, "images": images,
}  # fmt: skip


if __name__ == "__main__":
    main()
