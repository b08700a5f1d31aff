"""Deterministic evaluation, by itself; the commands around it are tested in test_cli_runs.py."""

from __future__ import annotations

import probe_envs  # noqa: F401
import pytest
from helpers import make_env, make_policy, tiny_config

from ppolab.agents import evaluation
from ppolab.agents.evaluation import evaluate_policy
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.native import native_policy


def test_each_environment_counts_its_first_episode(caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": [4, 2]})
    env = make_env(config)
    result = evaluate_policy(make_policy(config, env), env)
    assert result.lengths == [4] * 4
    assert not caplog.records
    assert all(60 <= value <= 68 for value in result.returns)  # 0 + 10 + 20 + 30, and four actions of up to 2


def test_an_episode_that_never_ends_counts_with_what_it_has_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 25)
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": [1000]})
    env = make_env(config)
    result = evaluate_policy(make_policy(config, env), env)
    assert result.lengths == [25] * 4
    assert all(3000 <= value <= 3050 for value in result.returns)  # 0 + 10 + ... + 240
    told = "evaluation: 4 of 4 episodes did not end within 25 steps; what they had by then counts"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_native_code_evaluates_the_same_policy() -> None:
    config = tiny_config("Pendulum-v1")
    results = []
    for native in (False, True):
        env = make_env(config)
        policy = make_policy(config, env)
        code = native_policy(policy, flatten_parameters(policy)) if native else None
        results.append(evaluate_policy(policy, env, code))
    assert results[0].returns == pytest.approx(results[1].returns, rel=1e-3)
