"""Training speed of ppolab against Stable-Baselines3 (SB3), and against the simulator alone.

Both sides train the same environment with a batch of 2048, minibatches of 64, 10 epochs, 64-64 tanh separate
networks, Adam at 3e-4 falling to 0, scaled observations and rewards, advantages normalized per minibatch, and no KL
early stopping. ppolab runs through its own command line with its shipped settings otherwise (so it also recomputes
advantages before every epoch and writes metrics.csv and checkpoints, which SB3 does not). SB3 runs in its own virtual
environment, made from the package index on first use, once per kind of vector environment, each with the faster of 1
and 2 torch threads, found in a short calibration.

Every measurement is a fresh process. Its speed is environment steps over wall-clock seconds, from the end of the first
iteration at or beyond the warm-up to the end of the last iteration: all overhead is in, while imports, compiling and
the evaluation after training are out, on both sides alike. Gradient steps are counted at the optimizer. The sides
alternate: every SB3 measurement has a ppolab measurement next to it, and the ratio is taken pair by pair.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import peer_env
from omegaconf import OmegaConf

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = (
    "logger=none", "eval_interval=0", "target_kl=null", "compile=true", "num_envs=64", "rollout_steps=32",
    "minibatch_size=64", "epochs=10", "optimizer.lr=3e-4", "model.hidden_sizes=[64,64]", "model.activation=tanh",
    "model.trunk=separate", "normalize_advantages=true", "trainer=cpu", "trainer.threads=1",
)  # fmt: skip
CALIBRATION_STEPS, CALIBRATION_WARMUP = 24_576, 8_192
NOT_IN_ENVPOOL = 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Peer:
    """A way to run SB3: where its environments live, how many there are, and torch's threads."""

    vec_env: str
    num_envs: int
    threads: int = 1

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.vec_env}{self.num_envs}"


@dataclass(frozen=True)
class Row:
    """One measurement, one line of the CSV. `kind` is pair, calibration or ceiling; `peer` the other side of a pair."""

    env: str
    kind: str
    repeat: int
    side: str
    peer: str
    num_envs: int
    torch_threads: int
    simulator_threads: int
    steps: int
    gradient_steps: int
    measured_steps: int
    measured_gradient_steps: int
    measured_seconds: float
    steps_per_second: float
    gradient_steps_per_1000: float
    cpu_seconds_per_million: float
    start_to_end_seconds: float
    process_seconds: float
    largest_process_mb: float
    load_before: float
    cores: int
    versions: str


@dataclass(frozen=True)
class Child:
    """A finished process: the record it left, when it started, how long it took, and its largest process in MB."""

    record: dict[str, Any]
    started: float
    seconds: float
    peak_mb: float
    load: float


class ChildFailed(Exception):
    """A measured process ended with an error."""

    def __init__(self, code: int, told: str) -> None:
        super().__init__(f"exit code {code}\n{told}")
        self.code = code


def main() -> None:
    """Measure every environment, append the rows to the CSV as they come, print the tables."""
    arguments = parse_arguments()
    python = peer_env.ready(arguments.peer_env, peer_env.sb3_requirements())
    rows: list[Row] = []
    with arguments.csv.open("w", newline="") if arguments.csv else open(os.devnull, "w") as file:  # noqa: PTH123
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        for env in arguments.env:
            for row in measurements(env, python, arguments):
                writer.writerow(asdict(row))
                file.flush()
                rows.append(row)
                print(progress_line(row), file=sys.stderr)
    print(report(rows))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", action="append", metavar="ID", help="environment id, repeatable (Hopper-v5)")
    parser.add_argument("--steps", type=int, default=120_000, help="environment steps per measurement (120000)")
    parser.add_argument("--warmup", type=int, default=20_480, help="of these, steps before the measured span (20480)")
    parser.add_argument("--repeats", type=int, default=3, help="pairs per kind of peer (3)")
    parser.add_argument(
        "--peers", nargs="+", type=peer, metavar="PEER", default=[peer("dummy8"), peer("subproc8"), peer("dummy1")],
        help="SB3's vector environments: dummy or subproc and how many (dummy8 subproc8 dummy1)",
    )  # fmt: skip
    parser.add_argument(
        "--peer-threads", type=int, nargs="+", default=[1, 2],
        help="torch threads for SB3; of several, a calibration picks the fastest for each peer (1 2)",
    )  # fmt: skip
    parser.add_argument("--override", action="append", default=[], help="a further setting of ppolab, repeatable")
    parser.add_argument("--ceiling-seconds", type=float, default=4.0, help="per measurement of the simulator alone (4)")
    parser.add_argument("--csv", type=Path, help="file for the raw rows")
    parser.add_argument(
        "--peer-env", type=Path, default=ROOT / "outputs" / "peers" / "sb3",
        help="SB3's virtual environment (outputs/peers/sb3 in the repository)",
    )  # fmt: skip
    arguments = parser.parse_args()
    arguments.env = arguments.env or ["Hopper-v5"]
    arguments.peer_env = arguments.peer_env.absolute()
    if arguments.warmup >= arguments.steps:
        parser.error(f"--warmup {arguments.warmup}: must be less than --steps {arguments.steps}")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
    return arguments


def peer(text: str) -> Peer:
    """Parse `dummy8`; the number of environments must divide the batch."""
    match = re.fullmatch(r"(dummy|subproc)(\d+)", text)
    if match is None or int(match[2]) == 0 or 2048 % int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: must be dummy or subproc and a divisor of 2048, such as dummy8")
    return Peer(match[1], int(match[2]))


# --- measuring -------------------------------------------------------------------------------------------------------


def measurements(env: str, python: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Calibrate the peers' threads, then per repeat the ceiling and all pairs, in alternating order."""
    peers: list[Peer] = []
    for kind in arguments.peers:
        candidates = [replace(kind, threads=threads) for threads in arguments.peer_threads]
        speeds = []
        for candidate in candidates if len(candidates) > 1 else ():
            row = measure_peer(env, candidate, python, CALIBRATION_STEPS, CALIBRATION_WARMUP, "calibration", 0)
            speeds.append(row.steps_per_second)
            yield row
        peers.append(candidates[speeds.index(max(speeds))] if speeds else candidates[0])
    for repeat in range(arguments.repeats):
        for threads in sorted({1, CORES}):
            yield from measure_ceiling(env, threads, repeat, arguments.ceiling_seconds)
        for index, chosen in enumerate(peers):
            ours = partial(measure_ours, env, chosen.name, arguments, repeat)
            theirs = partial(measure_peer, env, chosen, python, arguments.steps, arguments.warmup, "pair", repeat)
            for measure in (ours, theirs) if (repeat + index) % 2 == 0 else (theirs, ours):
                yield measure()


def measure_ours(env: str, against: str, arguments: argparse.Namespace, repeat: int) -> Row:
    """One training with ppolab."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(HERE / "peers" / "ppolab_speed.py"), "--env", env, "--seed", str(repeat),
            "--steps", str(arguments.steps), "--warmup", str(arguments.warmup), "--out", f"{folder}/result.json",
            *OURS, *arguments.override, f"hydra.run.dir={folder}/run",
        ]  # fmt: skip
        child = run_child(command, Path(folder))
        settings = OmegaConf.load(Path(folder) / "run" / "config.yaml")
    num_envs, threads = settings.num_envs, settings.env.num_threads or CORES
    return training_row(child, env, "pair", repeat, "ppolab", against, num_envs, threads)


def measure_peer(env: str, chosen: Peer, python: Path, steps: int, warmup: int, kind: str, repeat: int) -> Row:
    """One training with SB3."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(python), str(HERE / "peers" / "sb3_speed.py"), "--env", env, "--seed", str(repeat),
            "--steps", str(steps), "--warmup", str(warmup), "--out", f"{folder}/result.json",
            "--vec-env", chosen.vec_env, "--num-envs", str(chosen.num_envs), "--threads", str(chosen.threads),
        ]  # fmt: skip
        child = run_child(command, Path(folder))
    simulators = chosen.num_envs if chosen.vec_env == "subproc" else 1
    return training_row(child, env, kind, repeat, "sb3", chosen.name, chosen.num_envs, simulators)


def measure_ceiling(env: str, threads: int, repeat: int, seconds: float) -> Iterator[Row]:
    """EnvPool alone; nothing when it does not have the environment."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(HERE / "peers" / "simulator_speed.py"), "--env", env, "--seed", str(repeat),
            "--threads", str(threads), "--seconds", str(seconds), "--out", f"{folder}/result.json",
        ]  # fmt: skip
        try:
            child = run_child(command, Path(folder))
        except ChildFailed as error:
            if error.code != NOT_IN_ENVPOOL:
                raise
            return
    zeros = {"steps": 0, "gradient_steps": 0, "measured_gradient_steps": 0, "torch_threads": 0, "versions": {}}
    child = replace(child, record={**zeros, "ended": child.started, **child.record})
    yield training_row(child, env, "ceiling", repeat, "simulator", "", 64, threads)


def run_child(command: list[str], folder: Path) -> Child:
    """Run to the end; the process must leave result.json in `folder`.

    Raises:
        ChildFailed: it ended with an error; the message has the last lines it wrote.
    """
    load = os.getloadavg()[0]
    with (folder / "output.txt").open("wb") as output:
        started = time.time()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        told = (folder / "output.txt").read_text(errors="replace").splitlines()[-15:]
        raise ChildFailed(process.returncode, "\n".join(told))
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Child(json.loads((folder / "result.json").read_text()), started, seconds, usage.ru_maxrss / unit, load)


def training_row(
    child: Child, env: str, kind: str, repeat: int, side: str, against: str, num_envs: int, simulator_threads: int
) -> Row:
    """Rates and the rest, from what a process recorded."""
    record = child.record
    steps, seconds = record["measured_steps"], record["measured_seconds"]
    return Row(
        env=env,
        kind=kind,
        repeat=repeat,
        side=side,
        peer=against,
        num_envs=num_envs,
        torch_threads=record["torch_threads"],
        simulator_threads=simulator_threads,
        steps=record["steps"],
        gradient_steps=record["gradient_steps"],
        measured_steps=steps,
        measured_gradient_steps=record["measured_gradient_steps"],
        measured_seconds=round(seconds, 3),
        steps_per_second=round(steps / seconds, 1),
        gradient_steps_per_1000=round(1e3 * record["measured_gradient_steps"] / steps, 2),
        cpu_seconds_per_million=round(1e6 * record["measured_cpu_seconds"] / steps, 1),
        start_to_end_seconds=round(record["ended"] - child.started, 2),
        process_seconds=round(child.seconds, 2),
        largest_process_mb=round(child.peak_mb),
        load_before=round(child.load, 2),
        cores=CORES,
        versions=" ".join(f"{name}={version}" for name, version in record["versions"].items()),
    )


# --- reporting -------------------------------------------------------------------------------------------------------


def progress_line(row: Row) -> str:
    """One measurement, while the others run."""
    name = f"{row.side} {row.peer}" if row.side == "sb3" else row.side
    threads = f"torch threads {row.torch_threads}, simulator threads {row.simulator_threads}"
    return f"{row.env} {row.kind} {row.repeat}: {name:<14} {row.steps_per_second:>10,.0f} steps/s ({threads})"


def report(rows: list[Row]) -> str:
    """Markdown: per environment the speeds and the ratios; then what they were measured with."""
    lines: list[str] = []
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env and row.kind != "calibration"]
        lines += [f"### {env}", "", *speed_table(mine), "", *ratio_table(mine), ""]
    lines += [f"Command: `{shlex.join(['python', 'benchmarks/throughput.py', *sys.argv[1:]])}`  "]
    lines += [f"Machine: {platform.machine()}, {CORES} cores, {platform.system()}; load before the first measurement "
              f"{rows[0].load_before}  "]  # fmt: skip
    for side in ("ppolab", "sb3"):
        found = {row.versions for row in rows if row.side == side}
        lines += [f"Versions, {side}: {'; '.join(sorted(found)).replace('=', ' ')}  "]
    return "\n".join(lines)


def speed_table(rows: list[Row]) -> list[str]:
    """Medians per side; ppolab's are over all its measurements."""
    ceilings = {row.simulator_threads: 0.0 for row in rows if row.kind == "ceiling"}
    for threads in ceilings:
        ceilings[threads] = median([r for r in rows if r.kind == "ceiling" and r.simulator_threads == threads])
    shares = [f"of ceiling, {threads} thread{'s' if threads > 1 else ''}" for threads in ceilings]
    head = [
        "side", "threads torch/simulator", "runs", "steps/s: median", "min", "max", *shares, "gradient steps: all",
        "per 1,000 steps", "start to end of training, s", "CPU s per million steps", "largest process, MB",
    ]  # fmt: skip
    lines = [line(head), line(["---"] * 3 + ["---:"] * (len(head) - 3))]
    for name, group in groups(rows).items():
        speed = median(group)
        low, high = min(row.steps_per_second for row in group), max(row.steps_per_second for row in group)
        cells = [name, f"{group[0].torch_threads or '-'} / {group[0].simulator_threads}", str(len(group))]
        cells += [f"{speed:,.0f}", f"{low:,.0f}", f"{high:,.0f}"]
        cells += [f"{speed / ceiling:.0%}" for ceiling in ceilings.values()]
        if group[0].kind == "pair":
            cells += [f"{median(group, 'gradient_steps'):,.0f}", f"{median(group, 'gradient_steps_per_1000'):.1f}"]
            cells += [f"{median(group, 'start_to_end_seconds'):,.1f}"]
        else:
            cells += ["", "", ""]
        cells += [f"{median(group, 'cpu_seconds_per_million'):,.0f}", f"{median(group, 'largest_process_mb'):,.0f}"]
        lines.append(line(cells))
    return lines


def groups(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that repeat each other, under the name of their line in the table."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: ("ppolab", "sb3", "simulator").index(row.side)):
        if row.kind == "ceiling":
            name = f"EnvPool alone, random actions, {row.num_envs} environments"
            name += f", {row.simulator_threads} thread{'s' if row.simulator_threads > 1 else ''}"
        else:
            name = f"ppolab, {row.num_envs} environments" if row.side == "ppolab" else f"sb3 {row.peer}"
        found.setdefault(name, []).append(row)
    return found


def ratio_table(rows: list[Row]) -> list[str]:
    """ppolab's speed over SB3's, pair by pair."""
    pairs = [row for row in rows if row.kind == "pair"]
    lines = [line(["ratio of steps/s, pair by pair", "median", "min", "max", "pairs"]), line(["---", *["---:"] * 4])]
    for name in dict.fromkeys(row.peer for row in pairs):
        speed = {(row.repeat, row.side): row.steps_per_second for row in pairs if row.peer == name}
        repeats = sorted({repeat for repeat, _ in speed})
        ratios = [speed[repeat, "ppolab"] / speed[repeat, "sb3"] for repeat in repeats]
        numbers = [statistics.median(ratios), min(ratios), max(ratios)]
        lines.append(line([f"ppolab / sb3 {name}", *(f"{number:.2f}" for number in numbers), str(len(ratios))]))
    return lines


def median(rows: list[Row], name: str = "steps_per_second") -> float:
    """Of one column."""
    return float(statistics.median(getattr(row, name) for row in rows))


def line(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
