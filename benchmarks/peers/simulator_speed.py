"""Step EnvPool with random actions and nothing else: the most any training on this simulator could reach."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

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
    parser.add_argument("--seconds", type=float, default=4.0, help="measured span, after half a second of warm-up")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the measurement")
    arguments = parser.parse_args()
    steps, seconds, cpu = measure(
        arguments.env, arguments.num_envs, arguments.threads, arguments.seed, arguments.seconds
    )
    record = {"measured_steps": steps, "measured_seconds": seconds, "measured_cpu_seconds": cpu}
    arguments.out.write_text(json.dumps(record) + "\n")


def measure(env_id: str, num_envs: int, threads: int, seed: int, span: float) -> tuple[int, float, float]:
    """(environment steps, seconds, CPU seconds); rows that only reset an environment do not count as steps."""
    warnings.simplefilter("ignore")  # EnvPool warns about the precision of its own bounds
    import envpool

    if env_id not in envpool.list_all_envs():
        raise SystemExit(NOT_IN_ENVPOOL)
    envs = envpool.make(env_id, env_type="gymnasium", num_envs=num_envs, num_threads=threads, seed=seed)
    envs.action_space.seed(seed)
    actions = [np.stack([envs.action_space.sample() for _ in range(num_envs)]) for _ in range(64)]
    envs.reset()
    run(envs, actions, 0.5)
    started, cpu = time.perf_counter(), time.process_time()
    steps = run(envs, actions, span)
    return steps, time.perf_counter() - started, time.process_time() - cpu


def run(envs: object, actions: list[np.ndarray], span: float) -> int:
    """Step for `span` seconds; the number of environment steps."""
    steps, index = 0, 0
    ended = np.zeros(len(actions[0]), dtype=np.bool_)
    deadline = time.perf_counter() + span
    while time.perf_counter() < deadline:
        _, _, terminated, truncated, _ = envs.step(actions[index % len(actions)])  # type: ignore[attr-defined]
        steps += int((~ended).sum())
        ended = terminated | truncated
        index += 1
    return steps


if __name__ == "__main__":
    main()
