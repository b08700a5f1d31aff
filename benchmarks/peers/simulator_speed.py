"""Step EnvPool with random actions and nothing else, as one pool or as two that take turns: what the simulator makes
by itself."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NOT_IN_ENVPOOL = 3
"""Exit code when EnvPool has no such environment."""


def main() -> None:
    """Measure, and store steps and seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--env", required=True, help="environment id")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--num-envs", type=int, default=64, help="environments")
    parser.add_argument("--threads", type=int, default=1, help="threads of EnvPool")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured span of each way, after a warm-up")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the measurement")
    arguments = parser.parse_args()
    steps, seconds, cpu = measure(
        arguments.env, arguments.num_envs, arguments.threads, arguments.seed, arguments.seconds
    )
    record = {"measured_steps": steps, "measured_seconds": seconds, "measured_cpu_seconds": cpu}
    arguments.out.write_text(json.dumps(record) + "\n")


def measure(env_id: str, num_envs: int, threads: int, seed: int, span: float) -> tuple[int, float, float]:
    """(environment steps, seconds, CPU seconds) of the faster way; rows that only reset an environment do not count."""
    warnings.simplefilter("ignore")  # EnvPool warns about the precision of its own bounds
    import envpool

    if env_id not in envpool.list_all_envs():
        raise SystemExit(NOT_IN_ENVPOOL)
    ways = []
    for count in sorted({1, min(threads, 2)}):
        shares = {"num_envs": num_envs // count, "num_threads": threads // count}
        pools = [envpool.make(env_id, env_type="gymnasium", seed=seed + index, **shares) for index in range(count)]
        actions = random_actions(pools[0], num_envs // count, seed)
        run(pools, actions, 0.5)
        started, cpu = time.perf_counter(), time.process_time()
        steps = run(pools, actions, span)
        ways.append((steps, time.perf_counter() - started, time.process_time() - cpu))
        for pool in pools:
            pool.close()
    return max(ways, key=lambda way: way[0] / way[1])


def random_actions(pool: Any, num_envs: int, seed: int) -> list[np.ndarray]:
    """Batches to be taken in turn."""
    pool.action_space.seed(seed)
    return [np.stack([pool.action_space.sample() for _ in range(num_envs)]) for _ in range(64)]


def run(pools: list[Any], actions: list[np.ndarray], span: float) -> int:
    """Step for `span` seconds, each pool while the next is being waited for; the number of environment steps."""
    steps, index = 0, 0
    ended = [np.zeros(len(actions[0]), dtype=np.bool_) for _ in pools]
    for pool in pools:
        pool.reset()
        pool.send(actions[0])
    deadline = time.perf_counter() + span
    while time.perf_counter() < deadline:
        index += 1
        for number, pool in enumerate(pools):
            _, _, terminated, truncated, _ = pool.recv()
            pool.send(actions[index % len(actions)])
            steps += int((~ended[number]).sum())
            ended[number] = terminated | truncated
    for pool in pools:
        pool.recv()
    return steps


if __name__ == "__main__":
    main()
