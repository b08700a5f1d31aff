"""Training speed of ppolab against Stable-Baselines3 (SB3) and sheeprl, and against the simulator alone.

All sides train the same environment with a batch of 2048, minibatches of 64, 10 epochs, 64-64 tanh separate networks,
Adam at 3e-4 falling to 0, advantages normalized per minibatch, and no KL early stopping; ppolab and SB3 also scale
observations and rewards, which sheeprl cannot. ppolab runs through its own command line with its shipped settings
otherwise, without tracking and evaluation (it also recomputes advantages before every epoch and writes metrics.csv).
Each peer runs
in a virtual environment of its own, made from the package index on first use, once per kind of vector environment, with
the faster of 1 and 2 torch threads, found in a short calibration on the first environment.

Every measurement is a fresh process. Its speed is environment steps over wall-clock seconds, from the end of the first
iteration at or beyond the warm-up to the end of the last iteration: all overhead is in, while imports, compiling and
the evaluation after training are out, on all sides alike. Gradient steps are counted at the optimizers. The sides
alternate: every measurement of a peer has one of ppolab next to it, and the ratio is taken pair by pair. A peer that
cannot be installed, or fails, gets a line that says so, and the rest goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import peer_env
from omegaconf import OmegaConf
from processes import CORES, ROOT, Child, ChildFailed, peer_script, run_child, run_training, version_text
from throughput_report import Row, progress_line, report

ENVIRONMENTS = ("Hopper-v5", "HalfCheetah-v5", "CartPole-v1", "Ant-v5")
OURS = (
    "logger=none", "eval_interval=0", "target_kl=null", "compile=true", "num_envs=32", "rollout_steps=64",
    "minibatch_size=64", "epochs=10", "optimizer.lr=3e-4", "model.hidden_sizes=[64,64]", "model.activation=tanh",
    "model.trunk=separate", "normalize_advantages=true", "trainer=cpu", "trainer.threads=0",
)  # fmt: skip
KINDS = {
    "dummy": ("sb3", "dummy"), "subproc": ("sb3", "subproc"), "sheeprl": ("sheeprl", "sync"),
    "sheeprlasync": ("sheeprl", "async"),
}  # fmt: skip
"""What the command line calls a kind of peer, and which program with which `--vec-env` that is."""

MUCH_SLOWER = 3
"""A calibration is given up after this many times the seconds of the fastest one: on a busy machine, several threads of
torch wait for each other."""
NOT_IN_ENVPOOL = 3


@dataclass(frozen=True)
class Peer:
    """A way to run a peer: the kind of its vector environment, how many there are in it, and torch's threads."""

    kind: str
    num_envs: int
    threads: int = 1

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.kind}{self.num_envs}"

    @property
    def framework(self) -> str:
        """Whose program it is."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Span:
    """How long a measurement is: steps in all, steps before the measured span, seconds after which it is given up."""

    steps: int
    warmup: int
    patience: float | None = None


CALIBRATION = Span(12_288, 2_048)


def main() -> None:
    """Measure every environment, store the rows as they come, print and store the tables."""
    arguments = parse_arguments()
    rows: list[Row] = []
    with arguments.csv.open("w", newline="") if arguments.csv else open(os.devnull, "w") as file:  # noqa: PTH123
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        for row in all_measurements(arguments):
            writer.writerow(asdict(row))
            file.flush()
            rows.append(row)
            print(progress_line(row), file=sys.stderr, flush=True)
    text = report(rows, shlex.join(["python", "benchmarks/throughput.py", *sys.argv[1:]]))
    print(text)
    if arguments.report:
        raw = f"\nRaw measurements: [{arguments.csv.name}]({arguments.csv.name}).\n" if arguments.csv else "\n"
        arguments.report.write_text(f"{text}\n{raw}".rstrip() + "\n")
    if any(row.problem for row in rows if row.side == "ppolab"):
        raise SystemExit("ppolab itself failed; see the table")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--env", action="append", metavar="ID", help=f"environment id, repeatable ({', '.join(ENVIRONMENTS)})")
    add("--steps", type=int, default=36_864, help="environment steps per measurement (36864)")
    add("--warmup", type=int, default=4_096, help="of these, steps before the measured span (4096)")
    add("--repeats", type=int, default=3, help="pairs per peer (3)")
    add("--peers", nargs="+", type=peer, metavar="PEER",
        default=[peer(name) for name in ("dummy8", "sheeprl8", "dummy1")],
        help="a kind, and how many environments: dummy and subproc are SB3's vector environments, sheeprl and "
        "sheeprlasync sheeprl's (dummy8 sheeprl8 dummy1)")  # fmt: skip
    add("--peer-threads", type=int, nargs="+", default=[1, 2],
        help="torch threads for peers; of several, a calibration picks the fastest for each peer (1 2)")  # fmt: skip
    add("--override", action="append", default=[], help="a further setting of ppolab, repeatable")
    add("--ceiling-seconds", type=float, default=4.0, help="per measurement of the simulator alone (4)")
    add("--csv", type=Path, help="file for the raw rows")
    add("--report", type=Path, help="file for the tables, which are printed in any case")
    add("--peer-envs", type=Path, default=ROOT / "outputs" / "peers",
        help="folder of the peers' virtual environments (outputs/peers in the repository)")  # fmt: skip
    arguments = parser.parse_args()
    arguments.env = arguments.env or list(ENVIRONMENTS)
    arguments.peer_envs = arguments.peer_envs.absolute()
    if arguments.warmup >= arguments.steps:
        parser.error(f"--warmup {arguments.warmup}: must be less than --steps {arguments.steps}")
    for file in filter(None, (arguments.csv, arguments.report)):
        file.parent.mkdir(parents=True, exist_ok=True)
    return arguments


def peer(text: str) -> Peer:
    """Parse `dummy8`; the number of environments must divide the batch."""
    match = re.fullmatch(r"([a-z]+)(\d+)", text)
    if match is None or match[1] not in KINDS or int(match[2]) == 0 or 2048 % int(match[2]):
        kinds = ", ".join(KINDS)
        raise argparse.ArgumentTypeError(f"{text}: must be one of {kinds} and a divisor of 2048, such as dummy8")
    return Peer(match[1], int(match[2]))


# --- measuring -------------------------------------------------------------------------------------------------------


def all_measurements(arguments: argparse.Namespace) -> Iterator[Row]:
    """Install the peers, calibrate their threads on the first environment, measure all environments."""
    pythons: dict[str, Path] = {}
    problems: dict[str, str] = {}
    for framework in dict.fromkeys(kind.framework for kind in arguments.peers):
        try:
            wanted = peer_env.requirements(framework)
            pythons[framework] = peer_env.ready(arguments.peer_envs / framework, wanted)
        except peer_env.PeerUnavailable as error:
            problems[framework] = str(error)
    present = [kind for kind in arguments.peers if kind.framework in pythons]
    peers = yield from calibrated(arguments.env[0], present, pythons, arguments)
    for env in arguments.env:
        for kind in arguments.peers:
            if kind.framework in problems:
                yield Row(env, "pair", 0, kind.framework, kind.name, problem=problems[kind.framework], cores=CORES)
        yield from measurements(env, peers, pythons, arguments)


def calibrated(
    env: str, kinds: list[Peer], pythons: dict[str, Path], arguments: argparse.Namespace
) -> Generator[Row, None, list[Peer]]:
    """Every peer with the number of torch threads that made it fastest; the rows of the measurements."""
    chosen = []
    for kind in kinds:
        candidates = [replace(kind, threads=threads) for threads in arguments.peer_threads]
        speeds: list[float] = []
        seconds: list[float] = []
        for candidate in candidates if len(candidates) > 1 else ():
            span = replace(CALIBRATION, patience=MUCH_SLOWER * min(seconds) if seconds else None)
            measure = partial(measure_peer, env, candidate, pythons, span, "calibration", 0)
            instead = Row(env, "calibration", 0, kind.framework, kind.name, torch_threads=candidate.threads)
            row = attempt(measure, instead)
            speeds.append(row.steps_per_second)
            seconds += [] if row.problem else [row.process_seconds]
            yield row
        chosen.append(candidates[speeds.index(max(speeds))] if speeds else candidates[0])
    return chosen


def measurements(env: str, peers: list[Peer], pythons: dict[str, Path], arguments: argparse.Namespace) -> Iterator[Row]:
    """Per repeat all pairs, in alternating order, each beside the ceiling; a peer that failed is not tried again."""
    failed: set[str] = set()
    for repeat in range(arguments.repeats):
        for index, chosen in enumerate(peers):
            if chosen.name in failed:
                continue
            for threads in sorted({1, CORES}):
                yield from measure_ceiling(env, threads, repeat, arguments.ceiling_seconds)
            ours = partial(measure_ours, env, chosen.name, arguments, repeat)
            theirs = partial(
                measure_peer, env, chosen, pythons, Span(arguments.steps, arguments.warmup), "pair", repeat
            )
            sides = [
                (ours, Row(env, "pair", repeat, "ppolab", chosen.name)),
                (theirs, Row(env, "pair", repeat, chosen.framework, chosen.name)),
            ]
            for measure, instead in sides if (repeat + index) % 2 == 0 else reversed(sides):
                row = attempt(measure, instead)
                if row.problem and row.side != "ppolab":
                    failed.add(chosen.name)
                yield row


def attempt(measure: Callable[[], Row], instead: Row) -> Row:
    """What `measure` returns, or `instead` with the problem that it had."""
    try:
        return measure()
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return replace(instead, problem=error.reason, cores=CORES)


def measure_ours(env: str, against: str, arguments: argparse.Namespace, repeat: int) -> Row:
    """One training with ppolab."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, peer_script("ppolab_speed.py"), "--env", env, "--seed", str(repeat),
            "--steps", str(arguments.steps), "--warmup", str(arguments.warmup), "--out",
            f"{folder}/result.json", *OURS, *arguments.override, f"hydra.run.dir={folder}/run",
        ]  # fmt: skip
        child = run_child(command, Path(folder))
        settings = OmegaConf.load(Path(folder) / "run" / "config.yaml")
    num_envs, threads = settings.num_envs, settings.env.num_threads or CORES
    return training_row(child, Row(env, "pair", repeat, "ppolab", against, num_envs, simulator_threads=threads))


def measure_peer(env: str, chosen: Peer, pythons: dict[str, Path], span: Span, kind: str, repeat: int) -> Row:
    """One training with a peer."""
    framework, vec_env = KINDS[chosen.kind]
    settings = ["--vec-env", vec_env, "--num-envs", str(chosen.num_envs), "--threads", str(chosen.threads)]
    child = run_training(
        (str(pythons[framework]), f"{framework}_speed.py"), env, (span.steps, span.warmup), settings,
        seed=repeat, environment={"OMP_NUM_THREADS": str(chosen.threads)}, patience=span.patience,
    )  # fmt: skip
    simulators = chosen.num_envs if vec_env in {"subproc", "async"} else 1
    return training_row(
        child, Row(env, kind, repeat, framework, chosen.name, chosen.num_envs, simulator_threads=simulators)
    )


def measure_ceiling(env: str, threads: int, repeat: int, seconds: float) -> Iterator[Row]:
    """EnvPool alone; nothing when it does not have the environment."""
    row = Row(env, "ceiling", repeat, "simulator", "", 64, simulator_threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, peer_script("simulator_speed.py"), "--env", env, "--seed", str(repeat),
            "--threads", str(threads), "--seconds", str(seconds), "--out", f"{folder}/result.json",
        ]  # fmt: skip
        try:
            child = run_child(command, Path(folder))
        except ChildFailed as error:
            if error.code != NOT_IN_ENVPOOL:
                yield replace(row, problem=error.reason, cores=CORES)
            return
    zeros = {"steps": 0, "gradient_steps": 0, "measured_gradient_steps": 0, "torch_threads": 0, "versions": {}}
    child = replace(child, record={**zeros, "ended": child.started, **child.record})
    yield training_row(child, row)


def training_row(child: Child, row: Row) -> Row:
    """`row` with rates and the rest, from what a process recorded."""
    record = child.record
    steps, seconds = record["measured_steps"], record["measured_seconds"]
    return replace(
        row,
        torch_threads=record["torch_threads"],
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
        versions=version_text(record["versions"]),
    )


if __name__ == "__main__":
    main()
