"""How near an update comes to the fastest product of matrices that this machine makes.

    python benchmarks/update_arithmetic.py

A gradient step of the shipped network (actor and critic apart, two hidden layers of tanh units, 11 numbers observed
and 3 acted, as in Hopper) takes mainly products of matrices: three for each layer, but two for the first. The program
times whole gradient steps, with activations, objective, clipping and Adam, and counts the multiplications and additions
of the products alone. Beside them it times the same products by PyTorch's libraries, MKL and oneDNN, of which the
faster one counts; and, for the rate of the machine, products of square matrices, of which the fastest of all counts.

All sides have one thread, and alternate. A time is the least processor time of all rounds, which other programs change
least. Rows go to docs/results/performance/update_arithmetic.csv, which every run makes anew; the table is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from processes import ROOT, version_text
from result_tables import append_rows, markdown

sys.path.insert(0, str(ROOT / "src"))

import torch
from torch import Tensor

TABLE = ROOT / "docs/results/performance/update_arithmetic.csv"
WIDTHS = (64, 128, 256, 512, 1024)
MINIBATCHES = (64, 256, 1024, 4096)
SQUARES = (256, 512, 1024)
INPUTS, ACTIONS = 11, 3
SECONDS = 0.1
"""A timing repeats its work for about so long."""


@dataclass(frozen=True)
class Row:
    """One width and minibatch; rates in GFLOP/s. `instructions`: of the C++ code. `machine`: of the fastest product."""

    width: int
    minibatch: int
    instructions: str
    microseconds: float
    update: float
    library: float
    library_name: str
    machine: float
    rounds: int
    versions: str


Shape = tuple[int, int, int]
"""Of a product of [rows, depth] and [depth, columns]: rows, columns, depth."""


def main() -> None:
    """Measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--minibatches", type=int, nargs="+", default=MINIBATCHES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measured(arguments.widths, arguments.minibatches, arguments.rounds)
    arguments.out.unlink(missing_ok=True)
    append_rows(arguments.out, Row, rows)
    print("\n".join(table(rows)))


def measured(widths: list[int], minibatches: list[int], rounds: int) -> list[Row]:
    """Time everything in turn, `rounds` times; return rows of the least times."""
    from ppolab.learning.native.library import instructions

    squares: dict[int, dict[str, float]] = {}
    steps: dict[tuple[int, int], float] = {}
    libraries: dict[tuple[int, int], dict[str, float]] = {}
    for _ in range(rounds):
        for width in widths:
            for size in SQUARES:
                keep_least(squares.setdefault(size, {}), library_seconds([(size, size, size)]))
            for minibatch in minibatches:
                key = width, minibatch
                seconds = seconds_of(gradient_steps(width, minibatch)) / steps_in_epoch(minibatch)
                steps[key] = min(seconds, steps.get(key, seconds))
                keep_least(libraries.setdefault(key, {}), library_seconds(list(products(width, minibatch))))
    machine = max(operations([(size,) * 3]) / min(times.values()) for size, times in squares.items()) / 1e9
    versions, rows = version_text({"torch": torch.__version__}), []
    for (width, minibatch), seconds in steps.items():
        count, times = operations(products(width, minibatch)) / 1e9, libraries[width, minibatch]
        name = min(times, key=lambda key: times[key])
        rates = count / seconds, count / times[name]
        rows.append(
            Row(width, minibatch, instructions(), seconds * 1e6, rates[0], rates[1], name, machine, rounds, versions)
        )
    return rows


def products(width: int, minibatch: int) -> Iterator[Shape]:
    """The products of a gradient step: forward, by the weights, and, but for the first layers, by what is below."""
    for outputs in (ACTIONS, 1):
        for below, above in ((INPUTS, width), (width, width), (width, outputs)):
            yield minibatch, above, below
            yield above, below, minibatch
            if below != INPUTS:
                yield minibatch, below, above


def operations(shapes: Iterator[Shape] | list[Shape]) -> float:
    """Multiplications and additions."""
    return float(sum(2 * rows * columns * depth for rows, columns, depth in shapes))


def library_seconds(shapes: list[Shape]) -> dict[str, float]:
    """Seconds that each library takes for products of these shapes."""
    factors = [(torch.randn(rows, depth), torch.randn(columns, depth)) for rows, columns, depth in shapes]
    results = [torch.empty(len(left), len(right)) for left, right in factors]

    def mkl() -> None:
        for (left, right), result in zip(factors, results, strict=True):
            torch.mm(left, right.t(), out=result)

    def onednn() -> None:
        for left, right in factors:
            torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")

    sides = {"MKL": mkl} | ({"oneDNN": onednn} if torch.backends.mkldnn.is_available() else {})
    return {name: seconds_of(work) for name, work in sides.items()}


def seconds_of(work: Callable[[], None]) -> float:
    """The least processor time of `work`, which is repeated for SECONDS."""
    least, spent = float("inf"), 0.0
    while spent < SECONDS:
        started = time.process_time()
        work()
        taken = time.process_time() - started
        least, spent = min(least, taken), spent + taken
    return least


def keep_least(seconds: dict[str, float], more: dict[str, float]) -> None:
    """Lower what is in `seconds` to what `more` has, where that is less."""
    seconds |= {name: min(value, seconds.get(name, value)) for name, value in more.items()}


def steps_in_epoch(minibatch: int) -> int:
    """So many that small minibatches are not timed one by one."""
    return max(1, 2048 // minibatch)


def gradient_steps(width: int, minibatch: int) -> Callable[[], None]:
    """An epoch of the shipped algorithm on made-up experience, in C++."""
    from ppolab.core.observation_rows import RowLayout
    from ppolab.learning.actor_critic import ActorCritic
    from ppolab.learning.algorithms.ppo_clip import clipping
    from ppolab.learning.epoch import shuffled
    from ppolab.learning.flat_parameters import flatten_parameters
    from ppolab.learning.interface import LearnerContext
    from ppolab.learning.native import native_policy
    from ppolab.learning.objective import actor_critic_objective
    from ppolab.learning.optimizer import make_optimizer
    from ppolab.learning.update_path import make_epoch, update_path

    config, family = shipped_config(width)
    torch.manual_seed(0)
    policy = ActorCritic(RowLayout(INPUTS), family, config.model, normalize=False)
    flat, order = flatten_parameters(policy), torch.Generator().manual_seed(0)
    context = LearnerContext(
        policy, flat, make_optimizer(config, flat), config, order, native=native_policy(policy, flat)
    )
    objective = actor_critic_objective(family, config, clipping(config.clip))
    problem = update_path(context, objective, context.optimizer).reason
    assert problem is None, problem
    epoch, start = make_epoch(context, objective, context.optimizer), flat.vector.detach().clone()
    samples = made_up(policy, steps_in_epoch(minibatch) * minibatch)
    owners = torch.zeros(len(samples.weights), dtype=torch.int64)

    def work() -> None:
        with torch.no_grad():
            flat.vector.copy_(start)
        epoch(samples, shuffled(owners, 0, minibatch, order))

    return work


def shipped_config(width: int):  # type: ignore[no-untyped-def]
    """The shipped settings with two hidden layers of `width` units and one thread, and the distribution of Hopper."""
    from gymnasium.spaces import Box
    from hydra import compose, initialize_config_dir

    from ppolab.config.files import config_folder
    from ppolab.config.loading import from_hydra
    from ppolab.config.schema import register_schemas
    from ppolab.learning.actor_critic import action_distribution

    register_schemas()
    with initialize_config_dir(config_dir=str(config_folder("conf").resolve()), version_base="1.3"):
        node = compose("config", overrides=[f"model.hidden_sizes=[{width},{width}]", "trainer.threads=1"])
    return from_hydra(node), action_distribution(Box(-1, 1, (ACTIONS,)))


def made_up(policy, size: int):  # type: ignore[no-untyped-def]
    """Experience of a policy, with made-up advantages and returns."""
    from ppolab.learning.objective import Samples

    rng = torch.Generator().manual_seed(0)
    observations = torch.randn((size, INPUTS), generator=rng)
    with torch.no_grad():
        parameters = policy(observations)[0]
        actions = policy.distribution.sample(parameters, policy.distribution.noise((size,), rng))
        log_probs = policy.distribution.log_prob(parameters, actions)
    others: tuple[Tensor, ...] = tuple(torch.randn((3, size), generator=rng))
    return Samples(observations, actions, parameters, log_probs, *others, torch.ones(size))


def table(rows: list[Row]) -> list[str]:
    """The Markdown table, and the rate of the machine."""
    head = (
        "width", "minibatch", "µs per gradient step", "GFLOP/s", "of the machine's rate", "by a library, GFLOP/s",
    )  # fmt: skip
    lines = (
        (
            f"{row.width:,}", f"{row.minibatch:,}", f"{row.microseconds:,.0f}", f"{row.update:.0f}",
            f"{row.update / row.machine:.0%}", f"{row.library:.0f} ({row.library_name})",
        )
        for row in rows
    )  # fmt: skip
    told = f"{rows[0].instructions}, one thread. The fastest product of a library made {rows[0].machine:.0f} GFLOP/s."
    return [told, "", *markdown(head, lines, texts=0)]


if __name__ == "__main__":
    main()
