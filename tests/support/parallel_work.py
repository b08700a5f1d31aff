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

from ppolab.config.schema import Config
from ppolab.core.moments import sample_moments
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.interface import LearnerContext, UpdateStats
from ppolab.learning.native import native_policy
from ppolab.learning.optimizer import make_optimizer
from ppolab.learning.rollout import Episode, Rollout, totals
from ppolab.runtime.fork_server import ProcessPool
from ppolab.runtime.process_group import ALONE, ProcessGroup
from ppolab.runtime.rank_launcher import join_process_group
from ppolab.runtime.ranks import Rank
from ppolab.training.build import build_module
from ppolab.training.callbacks.start import Beginning, Start
from ppolab.training.run import env_and_policy, make_trainer

INPUTS = 3
SPACES: dict[str, spaces.Space[Any]] = {"Box": spaces.Box(-1, 1, (2,)), "Discrete": spaces.Discrete(3)}


def in_processes(count: int, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
    """`function(place, *arguments)` in `count` processes at once; what each returned, or the error that it raised."""
    pool = ProcessPool(count, ("ppolab.training.run",))
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{folder}/store"
        for number in range(count):
            rank, output = Rank(number, number, 0, count, rendezvous), Path(folder) / f"{number}.log"
            pool.start(number, function, (rank, *arguments), output, {"GLOO_SOCKET_IFNAME": "lo"})
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


def update_in_process(rank: Rank, config: Config, space: str, native: bool, scales: tuple[float, ...]) -> Updated:
    """One update of a policy with this process's own rollout; its rewards are multiplied by its entry of `scales`."""
    with join_process_group(rank, config) as group:
        policy = new_policy(config, space)
        return updated(config, policy, rollout_of(policy, rank.global_rank, scales), group, native)


def update_alone(config: Config, space: str, native: bool, scales: tuple[float, ...]) -> Updated:
    """The same with the rollouts of all in one process."""
    policy = new_policy(config, space)
    rollouts = [rollout_of(policy, rank, scales) for rank in range(len(scales))]
    return updated(config, policy, side_by_side(rollouts), ALONE, native)


def new_policy(config: Config, space: str) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(RowLayout(INPUTS), action_distribution(SPACES[space]), config.model, normalize=False)


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


def updated(config: Config, policy: ActorCritic, rollout: Rollout, group: ProcessGroup, native: bool) -> Updated:
    flat = flatten_parameters(policy)
    optimizer = make_optimizer(config, flat)
    generator = torch.Generator().manual_seed(3)
    code = native_policy(policy, flat) if native else None
    assert (code is not None) == native
    learner = make_algorithm(LearnerContext(policy, flat, optimizer, config, generator, group, code))
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


def train_in_process(rank: Rank, config: Config, count: int) -> list[Iteration]:
    """Iterations of a run in one of its processes."""
    with join_process_group(rank, config) as group, env_and_policy(config, rank, group) as (env, policy):
        diary = Diary(count)
        make_trainer(config, rank, [Start(Beginning()), diary]).fit(build_module(config, env, policy, group))
        return diary.iterations


# --- small messages --------------------------------------------------------------------------------------------------


def exchange(rank: Rank, config: Config) -> dict[str, Any]:
    """Every kind of message once."""
    with join_process_group(rank, config) as group:
        return {
            "sum": group.all_reduce(torch.tensor([1.0, 10.0 * rank.global_rank])).tolist(),
            "all": group.all_gather(f"from {rank.global_rank}"),
            "first": group.broadcast(rank.global_rank + 7),
            "is_first": group.is_first,
        }


def total_in_process(rank: Rank, config: Config) -> dict[str, Any]:
    """What the processes' rollouts add up to."""
    with join_process_group(rank, config) as group:
        found = totals(episodes_of(rank.global_rank), group)
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
