"""Runs of several processes through the real command: one result, and one end for all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from commands import (
    TRAIN,
    assert_one_line,
    ended,
    left_of,
    metric_rows,
    run_folders,
    series,
    session,
    train,
    wait_until,
)
from ppolab.learning.native.library import compiler

ENVIRONMENTS = '''
"""Environments that tell which process they are in, and some that end it."""
import multiprocessing
import os
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

FIRST = multiprocessing.current_process().name == "MainProcess"


class Signed(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def __init__(self, render_mode=None):
        self.steps = 0
        Path("first.pid" if FIRST else "other.pid").write_text(str(os.getpid()))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        self.happens()
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, self.steps % 20 == 0, False, {}

    def happens(self):
        pass


class FirstBreaks(Signed):
    def happens(self):
        if FIRST and self.steps == 50:
            raise RuntimeError("the simulator is on fire")


class OtherBreaks(Signed):
    def happens(self):
        if not FIRST and self.steps == 50:
            raise RuntimeError("the simulator is on fire")


class Slow(Signed):
    def happens(self):
        time.sleep(0.01)


for kind in (Signed, FirstBreaks, OtherBreaks, Slow):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
'''
SMALL = (
    "rollout_steps=16", "minibatch_size=32", "eval_episodes=2", "logger.video=false", "eval_interval=256",
    "checkpoint_interval=256",
)  # fmt: skip
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "num_envs=2", *SMALL)
"""A batch is 64 steps in two processes."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "signed.py").write_text(ENVIRONMENTS)
    return tmp_path


def trains(workspace: Path) -> bool:
    """Whether a run has made some iterations."""
    return any(len(metric_rows(run)) > 2 for run in run_folders(workspace) if (run / "metrics.csv").is_file())


# --- the same run ----------------------------------------------------------------------------------------------------


def test_two_processes_make_one_run_that_resumes(workspace: Path) -> None:
    answer = train(workspace, "env=cartpole", *TWO, "total_steps=512", "compile=false")
    assert answer.code == 0, answer.err
    (run,) = run_folders(workspace)
    assert "ppolab" not in (run / "process1.log").read_text(), "only the first tells anything"
    (workspace / "single").mkdir()
    single = train(workspace / "single", "env=cartpole", "num_envs=4", *SMALL, "total_steps=512", "compile=false")
    assert single.code == 0, single.err
    (alone,) = run_folders(workspace / "single")
    for name in ("train/return", "eval/return", "policy/epochs", "loss/policy", "value/explained_variance"):
        theirs = series(alone, name)
        assert series(run, name) == pytest.approx(theirs, rel=1e-3, abs=1e-4), name
        assert len(theirs) > 1
    before = metric_rows(run)
    more = train(workspace, f"resume={run}", "total_steps=1024")
    assert more.code == 0, more.err
    assert metric_rows(run)[: len(before)] == before and int(metric_rows(run)[-1]["step"]) >= 1024
    refused = train(workspace, f"resume={run}", "total_steps=2048", "trainer.devices=1")
    assert_one_line(refused, "trainer.devices 2 -> 1")


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_two_processes_that_share_an_update_in_native_code_have_the_bits_of_one(memory: str, tmp_path: Path) -> None:
    asked = (
        "env=cartpole", *SMALL, "total_steps=1024", f"model.memory={memory}", "normalize_observations=false",
        "normalize_rewards=false",
    )  # fmt: skip
    found = []
    for name, settings in (("alone", ("num_envs=4",)), ("two", ("trainer=ddp", "num_envs=2"))):
        answer = train(tmp_path, *asked, *settings, f"hydra.run.dir={name}")
        assert answer.code == 0, answer.err
        rows = metric_rows(tmp_path / name)
        found.append([{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows])
    assert found[0] == found[1]
    assert len({row["loss/policy"] for row in found[0]}) > 10


def test_a_sweep_of_runs_with_two_processes_is_started_once(workspace: Path) -> None:
    answer = train(workspace, "-m", "env=cartpole", "seed=0,1", *TWO, "total_steps=128", "compile=false")
    assert answer.code == 0, answer.err
    assert len(run_folders(workspace)) == 2


# --- started from outside --------------------------------------------------------------------------------------------


def test_torchrun_may_start_the_processes(workspace: Path) -> None:
    command = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", free_port(), TRAIN)
    with session(workspace, *command, "env=cartpole", *TWO, "total_steps=256", "compile=false") as process:
        answer = ended(process)
    assert answer.code == 0, answer.err
    assert len(run_folders(workspace)) == 1
    assert answer.out.count("eval return") == 1


def test_two_machines_meet(workspace: Path) -> None:
    settings = ("env=cartpole", *TWO, "trainer.devices=1", "trainer.num_nodes=2", "total_steps=256", "compile=false")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    with (
        session(workspace, TRAIN, *settings, **address, NODE_RANK="0") as first,
        session(workspace, TRAIN, *settings, **address, NODE_RANK="1") as second,
    ):
        answers = [ended(process) for process in (first, second)]
    assert [answer.code for answer in answers] == [0, 0], answers
    assert len(run_folders(workspace)) == 1
    assert "eval return" in answers[0].out and answers[1].out == ""


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("env", "told"), [
    ("FirstBreaks", "ppolab: signed:FirstBreaks-v0: environment 0 raised at its step 50: RuntimeError: the simulator"),
    ("OtherBreaks", "ppolab: process 1 of 2: signed:OtherBreaks-v0: environment 0 raised at its step 50: RuntimeError"),
])  # fmt: skip
def test_an_error_in_one_process_ends_all_with_its_cause(env: str, told: str, workspace: Path) -> None:
    with session(workspace, TRAIN, f"env.id=signed:{env}-v0", *TWO, "total_steps=100000") as process:
        answer = ended(process)
    assert answer.code == 1
    (line,) = (line for line in answer.err.splitlines() if line.startswith("ppolab: "))
    assert line.startswith(told)
    assert ("its output is in" in line) == ("process 1" in told)


@pytest.mark.parametrize("receivers", [("other",), ("first", "other")])
def test_a_request_to_stop_reaches_all_processes_whoever_gets_it(receivers: tuple[str, ...], workspace: Path) -> None:
    with session(workspace, TRAIN, "env.id=signed:Slow-v0", *TWO, "total_steps=100000") as process:
        wait_until(lambda: trains(workspace))
        for name in receivers:
            os.kill(int((workspace / f"{name}.pid").read_text()), signal.SIGTERM)
        answer = ended(process, 30)
    assert answer.code == 130, answer.err
    assert "everything is saved; go on with" in answer.err.splitlines()[-1]


def test_a_process_that_is_killed_ends_the_run_within_seconds(workspace: Path) -> None:
    with session(workspace, TRAIN, "env.id=signed:Slow-v0", *TWO, "total_steps=100000") as process:
        wait_until(lambda: trains(workspace))
        os.kill(int((workspace / "other.pid").read_text()), signal.SIGKILL)
        answer = ended(process, 30)
    assert answer.code == 1
    assert "process 1 of 2: the process ended with signal SIGKILL" in answer.err


def test_when_the_first_is_killed_the_others_end(workspace: Path) -> None:
    with session(workspace, TRAIN, "env.id=signed:Slow-v0", *TWO, "total_steps=100000") as process:
        wait_until(lambda: trains(workspace))
        process.kill()
        process.wait()
        assert wait_until(lambda: not left_of(process.pid), 30) < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_ends_all(number: signal.Signals, workspace: Path) -> None:
    with session(workspace, TRAIN, "env.id=signed:Slow-v0", *TWO, "total_steps=100000") as process:
        wait_until(lambda: trains(workspace))
        process.send_signal(number)
        answer = ended(process)
    assert answer.code == 130, answer.err
    assert "everything is saved; go on with" in answer.err
    (run,) = run_folders(workspace)
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_two_processes_start_from_an_earlier_policy_and_are_made_again(tmp_path: Path) -> None:
    """The first process reads the earlier run, and the other one gets its policy from there."""
    small = (
        "env=cartpole",
        "num_envs=4",
        "logger.video=false",
        "rollout_steps=16",
        "minibatch_size=32",
        "eval_episodes=2",
        "logger=none",
    )
    source = train(tmp_path, *small, "total_steps=512", "hydra.run.dir=source")
    assert source.code == 0, source.err
    two = ("trainer=ddp", "trainer.accelerator=cpu", "total_steps=256")
    warm = train(tmp_path, *small, *two, "init_from=source", "hydra.run.dir=warm")
    assert warm.code == 0, warm.err
    alone = train(tmp_path, *small, "num_envs=8", "total_steps=256", "init_from=source", "hydra.run.dir=alone")
    assert alone.code == 0, alone.err
    ours, theirs = (series(tmp_path / name, "loss/value") for name in ("warm", "alone"))
    assert ours == pytest.approx(theirs, rel=1e-3), "all ranks have the policy, or they would not be one run"
    again = train(tmp_path, "rerun=warm", "hydra.run.dir=again")
    assert again.code == 0, again.err
    assert "the same metrics as" in again.out.splitlines()[-1]
    other = train(tmp_path, *small, *two, "init_from=source", "model.hidden_sizes=[8]")
    assert other.code == 2
    assert "init_from=source: the networks differ: action_head.weight is [2, 64] there and [2, 8] here" in other.err
