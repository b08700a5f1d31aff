"""What tests of several processes let these do, and the way to start them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from gymnasium import spaces

from helpers import random_rollout
from ppolab.algorithms import make_algorithm
from ppolab.config import Config
from ppolab.core.moments import sample_moments
from ppolab.experiment import _module, _trainer
from ppolab.launch import joined
from ppolab.native import native_policy
from ppolab.parallel import ALONE, Processes
from ppolab.parameters import flatten_parameters, make_optimizer
from ppolab.places import Place
from ppolab.policy import ActorCritic, action_distribution
from ppolab.processes import ProcessPool
from ppolab.rollout import Episode, Rollout, totals
from ppolab.update import Parts, UpdateStats

INPUTS = 3
SPACES: dict[str, spaces.Space[Any]] = {"Box": spaces.Box(-1, 1, (2,)), "Discrete": spaces.Discrete(3)}


def in_processes(count: int, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
    """`function(place, *arguments)` in `count` processes at once; what each returned, or the error that it raised."""
    pool = ProcessPool(count, ("ppolab.experiment",))
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/store"
        for rank in range(count):
            place = Place(rank, rank, 0, count, meeting)
            pool.start(rank, function, (place, *arguments), Path(folder) / f"{rank}.log", {"GLOO_SOCKET_IFNAME": "lo"})
        results: dict[int, Any] = {}
        try:
            while len(results) < count:
                ended = pool.wait(seconds)
                assert ended, f"still running after {seconds} s"
                results |= {one.key: one.error or one.result for one in ended}
        finally:
            pool.stop()
    return [results[rank] for rank in range(count)]


# --- one update ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Updated:
    """Parameters and statistics after one update."""

    parameters: list[float]
    stats: UpdateStats


def update_in_process(place: Place, config: Config, space: str, native: bool, scales: tuple[float, ...]) -> Updated:
    """One update of a policy with this process's own rollout; its rewards are multiplied by its entry of `scales`."""
    with joined(place, config) as processes:
        policy = new_policy(config, space)
        return updated(config, policy, rollout_of(policy, place.rank, scales), processes, native)


def update_alone(config: Config, space: str, native: bool, scales: tuple[float, ...]) -> Updated:
    """The same with the rollouts of all in one process."""
    policy = new_policy(config, space)
    rollouts = [rollout_of(policy, rank, scales) for rank in range(len(scales))]
    return updated(config, policy, side_by_side(rollouts), ALONE, native)


def new_policy(config: Config, space: str) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(INPUTS, action_distribution(SPACES[space]), config.model, normalize=False)


def rollout_of(policy: ActorCritic, rank: int, scales: tuple[float, ...]) -> Rollout:
    """Made-up experience; episodes end more often in later processes, which therefore have fewer samples."""
    rollout = random_rollout(policy, INPUTS, steps=16, seed=rank, ends=0.05 + 0.2 * rank)
    return dataclasses.replace(rollout, rewards=rollout.rewards * scales[rank])


def side_by_side(rollouts: list[Rollout]) -> Rollout:
    """As one process would have collected them."""
    fields = {
        name: torch.cat([getattr(rollout, name) for rollout in rollouts], dim=1)
        for name, value in vars(rollouts[0]).items()
        if isinstance(value, torch.Tensor)
    }
    return dataclasses.replace(rollouts[0], **fields)


def updated(config: Config, policy: ActorCritic, rollout: Rollout, processes: Processes, native: bool) -> Updated:
    flat = flatten_parameters(policy)
    optimizer = make_optimizer(config, flat.vector)
    generator = torch.Generator().manual_seed(3)
    code = native_policy(policy, flat, config) if native else None
    assert (code is not None) == native
    learner = make_algorithm(Parts(policy, flat, optimizer, config, generator, processes, code))
    stats = learner.update(rollout, rollout.rewards)
    return Updated(flat.vector.detach().tolist(), stats)


# --- a few iterations of everything ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Iteration:
    """What a process has after an iteration."""

    parameters: list[float]
    mean: list[float]
    variance: list[float]
    metrics: dict[str, float]
    steps: int


class Diary(pl.Callback):
    """Writes iterations down and ends the training after `count`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.iterations: list[Iteration] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        scale = module.policy.observation_scale
        self.iterations.append(
            Iteration(
                module.parameters_vector.vector.tolist(), scale.mean.tolist(), scale.variance.tolist(), outputs,
                module.steps,
            )
        )  # fmt: skip
        trainer.should_stop = len(self.iterations) >= self.count


def train_in_process(place: Place, config: Config, count: int) -> list[Iteration]:
    """Iterations of a run in one of its processes."""
    with joined(place, config) as processes, _module(config, processes, None) as module:
        diary = Diary(count)
        _trainer(config, place, diary).fit(module)
        return diary.iterations


# --- small messages --------------------------------------------------------------------------------------------------


def exchange(place: Place, config: Config) -> dict[str, Any]:
    """Every kind of message once."""
    with joined(place, config) as processes:
        return {
            "sum": processes.add_up(torch.tensor([1.0, 10.0 * place.rank])).tolist(),
            "all": processes.all_of(f"from {place.rank}"),
            "first": processes.first_of(place.rank + 7),
            "is_first": processes.is_first,
        }


def total_in_process(place: Place, config: Config) -> dict[str, Any]:
    """What the processes' rollouts add up to."""
    with joined(place, config) as processes:
        found = totals(episodes_of(place.rank), processes)
        mean, count = found.observation_moments.mean.tolist(), float(found.observation_moments.count)
        return {"steps": found.num_steps, "mean": mean, "count": count, "episodes": found.episodes}


def episodes_of(rank: int) -> Rollout:
    """A rollout whose episodes end at times that interleave with those of other processes."""
    ended = torch.zeros((6, 2), dtype=torch.bool)
    ended[1 + rank, 0] = ended[4 - rank, 1] = True
    rows = torch.zeros((6, 2))
    moments = sample_moments(torch.arange(4.0)[:, None] + 10 * rank)
    return Rollout(
        torch.zeros((7, 2, 1)), rows, rows, rows, torch.zeros((7, 2)), rows, ended, torch.zeros_like(ended),
        torch.ones_like(ended), moments, moments,
        [Episode(1.0 + 10 * rank, 1 + rank), Episode(2.0 + 10 * rank, 4 - rank)],
    )  # fmt: skip
