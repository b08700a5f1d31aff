"""A run that is killed and resumed is the run that never was."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from forked_commands import ForkedCommand, command_pool
from resumed_runs import (
    COMMON,
    HIDDEN,
    STEPS,
    assert_the_same_run,
    killed_run,
    wait_for_checkpoint,
    whole_run,
)

from commands import metric_rows, run_folders, start_training, train, wait_until
from ppolab.runtime.fork_server import ProcessPool

EPOCHS = "epochs=3"
CASES: dict[str, tuple[str, ...]] = {
    "hopper, gymnasium": (EPOCHS, "env=hopper", "env.backend=gymnasium", "num_envs=4"),
    "hopper, envpool": (EPOCHS, "env=hopper", "env.backend=envpool", "num_envs=4", "env.stagger=true"),
    "cartpole, gymnasium": (EPOCHS, "env=cartpole", "env.backend=gymnasium", "num_envs=4", "compile=false"),
    "compiled": (EPOCHS, "env=hopper", "num_envs=4", "compile=true", "model.dropout=0.1"),
    "cartpole, envpool": (EPOCHS, "env=cartpole", "num_envs=4", "model.dropout=0.1"),
    "no state": (EPOCHS, "env.id=hidden:Hidden-v0", "num_envs=4", "normalize_advantages=true"),
    # one thread: two of a run wait for each other long where tests run side by side
    "images": (EPOCHS, "env.id=hidden:Picture-v0", "env.frame_stack=2", "num_envs=4", "trainer.threads=1"),
    "images, envpool": (
        EPOCHS,
        "env.id=MiniGrid-Empty-5x5-v0",
        "model=minigrid",
        "num_envs=4",
        "trainer.threads=1",
    ),
    "memory": (
        EPOCHS,
        "env=cartpole",
        "env.backend=gymnasium",
        "num_envs=4",
        "model.memory=gru",
        "model.memory_size=8",
    ),
    "memory, no state": (EPOCHS, "env.id=hidden:Hidden-v0", "num_envs=4", "model.memory=lstm", "model.memory_size=8"),
    "penalty": (EPOCHS, "env=cartpole", "env.backend=gymnasium", "num_envs=4", "algorithm=ppo_penalty"),
    "vpg": ("env=cartpole", "env.backend=gymnasium", "num_envs=4", "algorithm=vpg"),
    "trpo": ("env=hopper", "env.backend=gymnasium", "num_envs=4", "algorithm=trpo"),
    "two processes": (
        EPOCHS,
        "env=hopper",
        "env.backend=gymnasium",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "num_envs=2",
    ),
    "two processes, envpool": (EPOCHS, "env=hopper", "trainer=ddp", "trainer.accelerator=cpu", "num_envs=2"),
}
"""A hundred iterations."""
LONG = 4 * STEPS


@pytest.mark.parametrize("case", ["hopper, envpool", "compiled", "no state", "images", "memory", "two processes"])
def test_a_killed_run_resumes_as_itself(case: str, tmp_path: Path) -> None:
    whole = whole_run(tmp_path / "whole", *CASES[case])
    killed = killed_run(tmp_path / "killed", 0, *CASES[case])
    assert_the_same_run(whole, killed)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_at_twenty_moments_resumes_as_itself(case: str, tmp_path: Path) -> None:
    whole = whole_run(tmp_path / "whole", *CASES[case], steps=LONG)
    moments, kills = random.Random(7), 0
    with command_pool() as pool:
        while kills < 20:
            folder = tmp_path / f"after {kills} kills"
            run, count = often_killed_run(pool, folder, moments, 20 - kills, *CASES[case])
            assert_the_same_run(whole, run)
            kills += count


def often_killed_run(
    pool: ProcessPool, folder: Path, moments: random.Random, times: int, *settings: str
) -> tuple[Path, int]:
    """The same, killed so many times, fewer if it is done before; with the number of kills."""
    folder.mkdir()
    (folder / "hidden.py").write_text(HIDDEN)
    command = ForkedCommand(pool, folder, (*settings, *COMMON, f"total_steps={LONG}"), folder / "output.txt")
    wait_until(lambda: command.has_ended or bool(list(folder.glob("outputs/*/*/checkpoints/last.ckpt"))))
    (run,) = run_folders(folder)
    for kill in range(times):
        time.sleep(moments.uniform(0, 1.0))
        if not command.kill():
            return run, kill
        written = (run / "metrics.csv").stat().st_mtime_ns
        command = ForkedCommand(pool, folder, (f"resume={run}",), folder / "output.txt")
        wait_until(lambda: begun(command, run, written))  # noqa: B023 it is called at once
    assert command.end() in (0, 2), (folder / "output.txt").read_text()
    return run, times


def begun(command: ForkedCommand, run: Path, written: int) -> bool:
    """Whether it goes on with the run, or found nothing to do."""
    return command.has_ended or (run / "metrics.csv").stat().st_mtime_ns > written


def test_auto_goes_on_with_the_last_unfinished_run_of_this_configuration(tmp_path: Path) -> None:
    settings = (EPOCHS, "env=cartpole", "num_envs=4", "compile=false", *COMMON, "resume=auto")
    process = start_training(tmp_path, *settings, "total_steps=100000")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (first,) = run_folders(tmp_path)
    other = train(tmp_path, *settings, "clip=0.1", "total_steps=640")
    assert other.code == 0, other.err
    assert len(run_folders(tmp_path)) == 2
    process = start_training(tmp_path, *settings, "total_steps=100000", "logger.experiment=another")
    before = len(metric_rows(first))
    end = time.monotonic() + 60
    while len(metric_rows(first)) <= before:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    refused = train(tmp_path, f"resume={first}")
    assert refused.code == 2 and "another process is training this run" in refused.err
    process.kill()
    process.communicate()
    assert len(run_folders(tmp_path)) == 2
