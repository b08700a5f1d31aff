"""Deterministic evaluation, by itself; the commands around it are tested in test_cli_runs.py."""

from __future__ import annotations

import pytest

import probe_envs  # noqa: F401
from helpers import make_env, make_policy, tiny_config
from ppolab import evaluate
from ppolab.evaluate import evaluate_policy
from ppolab.native import native_policy
from ppolab.parameters import flatten_parameters


def test_each_environment_counts_its_first_episode() -> None:
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": [4, 2]})
    env = make_env(config)
    result = evaluate_policy(make_policy(config, env), env)
    assert result.lengths == [4] * 4
    assert all(60 <= value <= 68 for value in result.returns)  # 0 + 10 + 20 + 30, and four actions of up to 2


def test_an_episode_that_never_ends_counts_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MAX_EPISODE_STEPS", 25)
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": [1000]})
    env = make_env(config)
    result = evaluate_policy(make_policy(config, env), env)
    assert result.lengths == [25] * 4
    assert all(3000 <= value <= 3050 for value in result.returns)  # 0 + 10 + ... + 240


def test_native_code_evaluates_the_same_policy() -> None:
    config = tiny_config("Pendulum-v1")
    results = []
    for native in (False, True):
        env = make_env(config)
        policy = make_policy(config, env)
        code = native_policy(policy, flatten_parameters(policy), config) if native else None
        results.append(evaluate_policy(policy, env, code))
    assert results[0].returns == pytest.approx(results[1].returns, rel=1e-3)
