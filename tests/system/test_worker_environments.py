"""Environments in processes of their own: the same numbers, the same words, and an end in time."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import probe_envs
import pytest

from ppolab.config.schema import EnvConfig
from ppolab.envs import gymnasium_backend
from ppolab.envs.factory import VectorEnv, make_vector_env
from ppolab.envs.seeding import global_generator_states, private_generators, seed_global_generators
from ppolab.errors import EnvError

NOTHING = np.zeros((4, 1), dtype=np.int64)


@contextmanager
def made(env_id: str, seeds: list[int], vectorization: str = "async", **kwargs) -> Iterator[VectorEnv]:
    env = make_vector_env(EnvConfig(id=env_id, vectorization=vectorization, kwargs=kwargs), seeds, "gymnasium")
    try:
        yield env
    finally:
        env.close()


def processes_of(env: VectorEnv) -> list[multiprocessing.Process]:
    return env._envs.processes  # type: ignore[attr-defined]


def numbers(env: VectorEnv, steps: int = 12) -> np.ndarray:
    return np.stack([env.reset(), *(env.step(NOTHING).observations for _ in range(steps))])


@pytest.mark.parametrize("kind", ["shape", "kind", "unsendable"])
def test_info_is_ignored_whatever_it_holds(kind: str) -> None:
    found = []
    for vectorization in ("sync", "async"):
        with made("probe/ChangingInfo-v0", [1, 2, 3, 4], vectorization, kind=kind) as env:
            found.append(numbers(env))
    assert (found[0] == found[1]).all()


def test_global_generators_differ_between_workers_and_are_repeatable() -> None:
    before = global_generator_states()
    with private_generators(0):
        runs = []
        for seeds in ([1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7, 8]):
            seed_global_generators(len(runs))  # what this process has drawn does not matter
            with made("probe/GlobalNumbers-v0", seeds) as env:
                runs.append(numbers(env))
                env.restart(seeds)
                assert (numbers(env) == runs[-1]).all()
    first, again, turned, others = runs
    assert (first == again).all()
    assert (first == turned[:, ::-1]).all()
    assert (first != others).all()
    for generator in range(4):  # NumPy's, random's, PyTorch's, and the one that drew when the environment was made
        assert len({tuple(column) for column in first[:, :, generator].T}) == 4
    assert before["python"][1].tolist() == global_generator_states()["python"][1].tolist()


def test_a_restored_worker_goes_on_with_its_global_generators() -> None:
    with made("probe/GlobalNumbers-v0", [1, 2, 3, 4]) as env, made("probe/GlobalNumbers-v0", [5, 6, 7, 8]) as other:
        numbers(env, 7)
        state = env.state()
        assert state is not None
        other.restore(state)
        for _ in range(12):
            assert (env.step(NOTHING).observations == other.step(NOTHING).observations).all()


def test_a_state_of_workers_leaves_the_global_generators_of_this_process_alone() -> None:
    with (
        made("probe/GlobalNumbers-v0", [1, 2, 3, 4]) as env,
        made("probe/GlobalNumbers-v0", [1, 2, 3, 4], "sync") as own,
    ):
        numbers(env, 2)
        own.reset()
        before = global_generator_states()["numpy"][1].tolist()
        own.restore(env.state())
        assert global_generator_states()["numpy"][1].tolist() == before


def test_an_exception_has_the_user_s_file_and_line_and_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "ppolab"),
        made("probe/Faulty-v0", [1, 2, 3, 4], fault="raise") as env,
    ):
        env.reset()
        with pytest.raises(EnvError) as caught:
            env.step(np.array([[0], [0], [1], [0]]))
    words = "environment 2 raised at its step 1: RuntimeError: the simulator is on fire (probe_envs.py:"
    assert str(caught.value).startswith(f"probe/Faulty-v0: {words}")
    (record,) = caplog.records
    assert record.message.startswith(str(caught.value)) and 'raise RuntimeError("the simulator' in record.message


def test_a_reward_that_is_no_number_is_named() -> None:
    space = probe_envs.box(1)
    with made("probe/Returns-v0", [1, 2, 3, 4], observation_space=space, reward=np.ones(1)) as env:
        env.reset()
        with pytest.raises(EnvError, match=r"returned a reward of shape \(1,\), not a number, at its step 1"):
            env.step(NOTHING)


def test_workers_that_nobody_waits_for_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an error of this process between a step's start and its end, when an environment hangs."""
    monkeypatch.setattr(gymnasium_backend, "CLOSING_SECONDS", 0.5)
    with made("probe/Faulty-v0", [1, 2, 3, 4], fault="hang") as env:
        env.reset()
        env.send(np.array([[0], [1], [0], [0]]))
        workers = processes_of(env)
        assert len(workers) == 4
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_that_is_gone_at_the_end_is_told_of_and_the_others_are_ended(caplog: pytest.LogCaptureFixture) -> None:
    with made("probe/Faulty-v0", [1, 2, 3, 4]) as env:
        env.reset()
        workers = processes_of(env)
        workers[2].kill()
        workers[2].join()
    (record,) = caplog.records
    assert record.message == (
        "probe/Faulty-v0: the process of environment 2 is gone (exit code -9): it crashed, left Python or ran out of "
        "memory, when it was closed"
    )
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_that_is_gone_before_it_has_made_its_environment_is_told_of() -> None:
    config = EnvConfig(id="probe/Faulty-v0", vectorization="async", kwargs={"fault": "vanish when made"})
    before = multiprocessing.active_children()
    with pytest.raises(
        EnvError, match=r"^probe/Faulty-v0: the process of environment \d is gone \(exit code 3\): .*made"
    ):
        make_vector_env(config, [1, 2, 3, 4], "gymnasium")
    assert multiprocessing.active_children() == before
