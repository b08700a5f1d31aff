"""How long an agent takes to act: one observation, and a batch, on one thread of the processor.

    python benchmarks/agent_speed.py                  # a fresh policy for Hopper, with the default network
    python benchmarks/agent_speed.py run=RUN --check  # a trained one; fails where it is slower than promised

Many short stretches of calls are timed. The median is what a user sees; the least shows what the processor can do while
nobody else uses it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ppolab
from ppolab.agents.agent import Agent
from ppolab.agents.policy import fresh_policy
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.envs.factory import environment_spaces
from ppolab.records.run_folder import FoundRun, RunFolder

ONE_MICROSECONDS = 30.0
BATCH_FACTOR = 10.0
"""A batch of `BATCH` may take so many times as long as one observation may."""
BATCH = 1024


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call, over several stretches of calls."""

    what: str
    median: float
    least: float

    def __str__(self) -> str:
        return f"{self.what:<34} {self.median:9.1f} {self.least:9.1f}"


def fresh_agent(settings: list[str]) -> Agent:
    """An agent of the untrained policy that a run with these settings begins with."""
    config = ppolab.compose(settings)
    observations, actions = environment_spaces(config.env)
    policy = fresh_policy(config, observations, actions).eval()
    nowhere = FoundRun(RunFolder(Path("no run")), Path("no checkpoint"))
    return Agent(TrainedPolicy(config, policy, observations, actions, 0, nowhere))


def timed(what: str, act: Callable[[], Any], stretches: int, calls: int) -> Timing:
    """Time `calls` calls, so many times."""
    act()
    found = []
    for _ in range(stretches):
        began = time.perf_counter()
        for _ in range(calls):
            act()
        found.append((time.perf_counter() - began) / calls * 1e6)
    return Timing(what, statistics.median(found), min(found))


def measured(agent: Agent, stretches: int, calls: int) -> list[Timing]:
    """Time one observation and a batch, deterministic and sampled."""
    space = agent.observation_space
    assert space.shape is not None, "observations are arrays"
    generator = np.random.default_rng(0)
    one, batch = generator.normal(size=space.shape), generator.normal(size=(BATCH, *space.shape))
    return [
        timed("one observation", lambda: agent.act(one), stretches, calls),
        timed("one observation, sampled", lambda: agent.act(one, deterministic=False), stretches, calls),
        timed(f"{BATCH:,} observations", lambda: agent.act(batch), stretches, max(calls // 10, 1)),
        timed(f"{BATCH:,} observations, sampled", lambda: agent.act(batch, False), stretches, max(calls // 10, 1)),
    ]


def problems(timings: list[Timing]) -> list[str]:
    """What is slower than promised."""
    one, _, batch, _ = timings
    limits = ((one, ONE_MICROSECONDS), (batch, BATCH_FACTOR * ONE_MICROSECONDS))
    return [f"{each.what}: {each.median:.1f} us, not {limit:g}" for each, limit in limits if each.median > limit]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="run=RUN: a trained policy; without it a fresh one")
    parser.add_argument("--settings", nargs="*", default=["env=hopper"], help="of the fresh policy")
    parser.add_argument("--stretches", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="exit with 1 where it is slower than promised")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    agent = ppolab.load(given.run.removeprefix("run=")) if given.run else fresh_agent(given.settings)
    print(agent)
    print(f"{'microseconds':<34} {'median':>9} {'least':>9}")
    timings = measured(agent, given.stretches, given.calls)
    print("\n".join(map(str, timings)))
    found = problems(timings) if given.check else []
    for problem in found:
        print(f"too slow: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
